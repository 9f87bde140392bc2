//! The objects that a server can make, as methods of `Manager`.

use serde::Serialize;

use super::error::CallError;
use super::front::Manager;
use super::message::Kind;
use super::proxy::{
    Array, Barrier, Condition, ConditionLock, Dict, Event, Handle, JoinableQueue, List, Lock, Namespace,
    Queue, ReentrantLock, Semaphore, Value, put_values,
};

/// Each method makes an object, or, in the form with a name, answers the one of that name and makes it if there is none.
impl Manager {
    /// A dict, empty when new.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.dict")]
    pub fn dict<K, V>(&self) -> Result<Dict<K, V>, CallError> {
        Handle::create(self.client(), Kind::Dict, None, |_| ()).map(Dict::of)
    }

    /// As [`dict`](Manager::dict), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn dict_named<K, V>(&self, name: &str) -> Result<Dict<K, V>, CallError> {
        Handle::create(self.client(), Kind::Dict, Some(name), |_| ()).map(Dict::of)
    }

    /// A list, empty when new.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.list")]
    pub fn list<T>(&self) -> Result<List<T>, CallError> {
        Handle::create(self.client(), Kind::List, None, |_| ()).map(List::of)
    }

    /// As [`list`](Manager::list), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn list_named<T>(&self, name: &str) -> Result<List<T>, CallError> {
        Handle::create(self.client(), Kind::List, Some(name), |_| ()).map(List::of)
    }

    /// A namespace, empty when new.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.Namespace")]
    pub fn namespace(&self) -> Result<Namespace, CallError> {
        Handle::create(self.client(), Kind::Namespace, None, |_| ()).map(Namespace::of)
    }

    /// As [`namespace`](Manager::namespace), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn namespace_named(&self, name: &str) -> Result<Namespace, CallError> {
        Handle::create(self.client(), Kind::Namespace, Some(name), |_| ()).map(Namespace::of)
    }

    /// A value, which is `initial` when new.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.Value")]
    pub fn value<T: Serialize>(&self, initial: T) -> Result<Value<T>, CallError> {
        Handle::create_with(self.client(), Kind::Value, None, |message, storing| {
            storing.value(&initial, message)
        })
        .map(Value::of)
    }

    /// As [`value`](Manager::value), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn value_named<T: Serialize>(&self, name: &str, initial: T) -> Result<Value<T>, CallError> {
        Handle::create_with(self.client(), Kind::Value, Some(name), |message, storing| {
            storing.value(&initial, message)
        })
        .map(Value::of)
    }

    /// An array of these values; how many stays so.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.Array")]
    pub fn array<T: Serialize>(&self, values: impl IntoIterator<Item = T>) -> Result<Array<T>, CallError> {
        Handle::create_with(self.client(), Kind::Array, None, |message, storing| {
            put_values::<T>(values, message, storing)
        })
        .map(Array::of)
    }

    /// As [`array`](Manager::array), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn array_named<T: Serialize>(
        &self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Result<Array<T>, CallError> {
        Handle::create_with(self.client(), Kind::Array, Some(name), |message, storing| {
            put_values::<T>(values, message, storing)
        })
        .map(Array::of)
    }

    /// A queue, of `bound` items at most.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// The bound is 0.
    #[doc(alias = "SyncManager.Queue")]
    pub fn queue<T>(&self, bound: Option<usize>) -> Result<Queue<T>, CallError> {
        Queue::create(self.client(), None, bound)
    }

    /// As [`queue`](Manager::queue), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// The bound is 0.
    pub fn queue_named<T>(&self, name: &str, bound: Option<usize>) -> Result<Queue<T>, CallError> {
        Queue::create(self.client(), Some(name), bound)
    }

    /// A queue whose items are to be [done](JoinableQueue::task_done), of `bound` items at most.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// The bound is 0.
    #[doc(alias = "SyncManager.JoinableQueue")]
    pub fn joinable_queue<T>(&self, bound: Option<usize>) -> Result<JoinableQueue<T>, CallError> {
        JoinableQueue::create(self.client(), None, bound)
    }

    /// As [`joinable_queue`](Manager::joinable_queue), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// The bound is 0.
    pub fn joinable_queue_named<T>(
        &self,
        name: &str,
        bound: Option<usize>,
    ) -> Result<JoinableQueue<T>, CallError> {
        JoinableQueue::create(self.client(), Some(name), bound)
    }

    /// A lock.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.Lock")]
    pub fn lock(&self) -> Result<Lock, CallError> {
        Lock::create(self.client(), None)
    }

    /// As [`lock`](Manager::lock), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn lock_named(&self, name: &str) -> Result<Lock, CallError> {
        Lock::create(self.client(), Some(name))
    }

    /// A lock that its thread can take again.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.RLock")]
    pub fn reentrant_lock(&self) -> Result<ReentrantLock, CallError> {
        ReentrantLock::create(self.client(), None)
    }

    /// As [`reentrant_lock`](Manager::reentrant_lock), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn reentrant_lock_named(&self, name: &str) -> Result<ReentrantLock, CallError> {
        ReentrantLock::create(self.client(), Some(name))
    }

    /// A semaphore of so many permits, to which any number can be released.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// There are more than [`Semaphore::MAX`] permits.
    #[doc(alias = "SyncManager.Semaphore")]
    pub fn semaphore(&self, permits: u32) -> Result<Semaphore, CallError> {
        Semaphore::create(self.client(), None, permits, false)
    }

    /// As [`semaphore`](Manager::semaphore), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// There are more than [`Semaphore::MAX`] permits.
    pub fn semaphore_named(&self, name: &str, permits: u32) -> Result<Semaphore, CallError> {
        Semaphore::create(self.client(), Some(name), permits, false)
    }

    /// A semaphore of so many permits, that never has more.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// There are more than [`Semaphore::MAX`] permits.
    #[doc(alias = "SyncManager.BoundedSemaphore")]
    pub fn bounded_semaphore(&self, permits: u32) -> Result<Semaphore, CallError> {
        Semaphore::create(self.client(), None, permits, true)
    }

    /// As [`bounded_semaphore`](Manager::bounded_semaphore), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// There are more than [`Semaphore::MAX`] permits.
    pub fn bounded_semaphore_named(&self, name: &str, permits: u32) -> Result<Semaphore, CallError> {
        Semaphore::create(self.client(), Some(name), permits, true)
    }

    /// An event, not set when new.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.Event")]
    pub fn event(&self) -> Result<Event, CallError> {
        Event::create(self.client(), None)
    }

    /// As [`event`](Manager::event), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn event_named(&self, name: &str) -> Result<Event, CallError> {
        Event::create(self.client(), Some(name))
    }

    /// A condition of that lock, which is of the same server.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    #[doc(alias = "SyncManager.Condition")]
    pub fn condition(&self, lock: impl Into<ConditionLock>) -> Result<Condition, CallError> {
        Condition::create(self.client(), None, lock.into())
    }

    /// As [`condition`](Manager::condition), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    pub fn condition_named(
        &self,
        name: &str,
        lock: impl Into<ConditionLock>,
    ) -> Result<Condition, CallError> {
        Condition::create(self.client(), Some(name), lock.into())
    }

    /// A barrier for so many parties.
    ///
    /// # Errors
    ///
    /// [`CallError::Exhausted`]: the server gives this process no more. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// There are no parties.
    #[doc(alias = "SyncManager.Barrier")]
    pub fn barrier(&self, parties: usize) -> Result<Barrier, CallError> {
        Barrier::create(self.client(), None, parties)
    }

    /// As [`barrier`](Manager::barrier), by a name.
    ///
    /// # Errors
    ///
    /// [`CallError::OtherKind`]: the name is that of another kind of object. Else see [`CallError`].
    ///
    /// # Panics
    ///
    /// There are no parties.
    pub fn barrier_named(&self, name: &str, parties: usize) -> Result<Barrier, CallError> {
        Barrier::create(self.client(), Some(name), parties)
    }
}
