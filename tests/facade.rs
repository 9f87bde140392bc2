//! Makes sure that every name of the facade leads where it should.

use std::any::type_name;
use std::error::Error;

use multiprocess::{self as facade, *};

multiprocess::testing!();

fn is_error<E: Error>() {
    let name = type_name::<E>();
    assert!(["Error", "Fault", "Failure"].iter().any(|word| name.contains(word)), "{name}");
}

#[test]
fn rooms_are_reexported() {
    let _: fn(&str) -> Result<shm::SharedMemory, shm::OpenError> = SharedMemory::open;
    let _: fn() -> Result<sync::Lock, sync::CreateError> = Lock::new;
    let _: fn() -> Result<queue::Queue<u8>, queue::CreateError> = Queue::new;
    let _: fn() -> Result<(connection::Connection, connection::Connection), connection::PipeError> = pipe;
    assert!(shm::list().unwrap().iter().all(|segment| !segment.name.is_empty()));
}

#[test]
fn shared_memory() {
    let segment = SharedMemory::anonymous(8).unwrap();
    segment.write(0, b"12345678").unwrap();
    let descriptor: Descriptor = std::fs::File::open("/dev/null").unwrap().into();
    assert!(descriptor.try_into_file().is_ok());
}

#[test]
fn lock() {
    let lock = Lock::new().unwrap();
    let guard: LockGuard<'_> = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    assert!(matches!(lock.try_lock(), Err(TryLockError::Failed(LockError::Deadlock))));
    drop(guard);
}

#[test]
fn values() {
    let value: Value<u32> = Value::new(1).unwrap();
    let guard: ValueGuard<'_, u32> = value.lock().unwrap();
    assert_eq!((*guard, value.fetch_add(1)), (1, 1));
    let array: Array<u8> = Array::new(2).unwrap();
    let guard: ArrayGuard<'_, u8> = array.lock().unwrap();
    assert_eq!(guard.get(2), Err(OutOfRange { index: 2, len: 2 }));
    fn shared<T: Shareable>(_: T) {}
    shared(array.get(0).unwrap());
}

#[test]
fn pipes() {
    let (here, there): (Connection, Connection) = pipe().unwrap();
    here.send(&1u8).unwrap();
    assert_eq!(there.recv::<u8>().unwrap(), 1);
    let (receiver, sender): (Receiver, Sender) = simplex().unwrap();
    sender.send_bytes(b"bytes").unwrap();
    assert_eq!(receiver.recv_bytes().unwrap(), b"bytes");
}

#[test]
fn listeners() {
    let listener: Listener = Listener::bind(&Address::fresh(), Key::random().unwrap()).unwrap();
    let (address, key) = (listener.address().clone(), listener.key().clone());
    let client = std::thread::spawn(move || connect(&address, &key).unwrap().send(&1u8).unwrap());
    let link: Link = listener.accept().unwrap();
    assert_eq!(link.recv::<u8>().unwrap(), 1);
    client.join().unwrap();
}

#[test]
fn queues() {
    let queue = Queue::<u8>::bounded(1).unwrap();
    queue.put(1).unwrap();
    assert!(queue.try_put(2).is_err());
    assert_eq!(queue.get().unwrap(), 1);
}

#[test]
fn processes() {
    let builder: Builder = Process::builder().name("one").stdout(Stdio::null());
    let mut process: Process<u8> = builder.spawn(|x: u8| x + 1, 1).unwrap();
    assert_eq!(process.join().unwrap(), 2);
    let status: ExitStatus = process.exit_status().unwrap();
    assert!(status.success());
    let this: CurrentProcess = current_process();
    assert_eq!(this.name(), "MainProcess");
    facade::init(); // once more does nothing
}

#[test]
fn pools() {
    let builder: PoolBuilder = Pool::builder().workers(1);
    let pool: Pool = builder.start().unwrap();
    let tasks: Tasks<'_> = pool.tasks().chunk_size(2);
    let mut results: Imap<_, u8> = tasks.imap(|x: u8| x + 1, 0..3);
    assert_eq!(results.next(), Some(Ok(1)));
    let result: AsyncResult<bool> = pool.apply_async(|()| worker_state::<u8>().is_none(), ());
    assert_eq!(result.get(), Ok(true));
    assert_eq!(pool.join(), Err(PoolJoinError::Open));
}

#[test]
fn errors() {
    is_error::<PoolError>();
    is_error::<PoolJoinError>();
    is_error::<SpawnError<u8>>();
    is_error::<SpawnFailure>();
    is_error::<JoinError>();
    is_error::<TryJoinError>();
    is_error::<LockError>();
    is_error::<TryLockError>();
    is_error::<ArrayError>();
    is_error::<PipeError>();
    is_error::<ConnectError>();
    is_error::<AddressError>();
    is_error::<KeyError>();
    is_error::<SendError>();
    is_error::<RecvError>();
    is_error::<TryRecvError>();
    is_error::<RecvIntoError>();
    is_error::<PutError<u8>>();
    is_error::<PutFault>();
    is_error::<GetError>();
}
