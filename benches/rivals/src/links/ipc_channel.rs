//! `ipc-channel`: a channel of bytes, or of serde values, for each direction.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcReceiver, IpcSender, IpcSharedMemory};

use crate::link::{End, Ends, Link, number, set_number};
use crate::processors::Side;
use crate::record::Record;

pub struct IpcChannel(Ends<Bytes>);

pub struct Bytes(IpcBytesSender, IpcBytesReceiver);

impl Link for IpcChannel {
    const NAME: &'static str = "ipc-channel";
    type End = Bytes;

    fn create(_: usize) -> IpcChannel {
        let (to_right, from_left) = ipc::bytes_channel().unwrap();
        let (to_left, from_right) = ipc::bytes_channel().unwrap();
        IpcChannel(Ends::new(Bytes(to_right, from_right), Bytes(to_left, from_left)))
    }

    fn open(&self, side: Side) -> Bytes {
        self.0.take(side)
    }
}

impl End for Bytes {
    fn send(&mut self, message: &[u8]) {
        self.0.send(message).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, number(&self.1.recv().unwrap()));
    }
}

pub struct IpcChannelTyped(Ends<Typed>);

pub struct Typed(IpcSender<Record>, IpcReceiver<Record>);

impl Link for IpcChannelTyped {
    const NAME: &'static str = IpcChannel::NAME;
    type End = Typed;

    fn create(_: usize) -> IpcChannelTyped {
        let (to_right, from_left) = ipc::channel().unwrap();
        let (to_left, from_right) = ipc::channel().unwrap();
        IpcChannelTyped(Ends::new(Typed(to_right, from_right), Typed(to_left, from_left)))
    }

    fn open(&self, side: Side) -> Typed {
        self.0.take(side)
    }
}

impl End for Typed {
    fn send(&mut self, message: &[u8]) {
        self.0.send(Record::new(number(message))).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, self.1.recv().unwrap().number);
    }
}

/// Messages are memory of their own, handed over.
pub struct IpcChannelMemory(Ends<Memory>);

pub struct Memory(IpcSender<IpcSharedMemory>, IpcReceiver<IpcSharedMemory>);

impl Link for IpcChannelMemory {
    const NAME: &'static str = "ipc-channel (shared memory)";
    type End = Memory;

    fn create(_: usize) -> IpcChannelMemory {
        let (to_right, from_left) = ipc::channel().unwrap();
        let (to_left, from_right) = ipc::channel().unwrap();
        IpcChannelMemory(Ends::new(Memory(to_right, from_right), Memory(to_left, from_left)))
    }

    fn open(&self, side: Side) -> Memory {
        self.0.take(side)
    }
}

impl End for Memory {
    /// All of it is written: it has no memory that is not.
    fn send(&mut self, message: &[u8]) {
        self.0.send(IpcSharedMemory::from_bytes(message)).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, number(&self.1.recv().unwrap()));
    }
}
