//! `iceoryx2`: a service for each direction, polled.
//!
//! Its receiver does not wait, so ours for it looks a while, then yields. Waiting by its own events costs as much
//! as a pipe does.
#![allow(unsafe_code)]

use iceoryx2::port::{publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;

use crate::link::{End, Link};
use crate::names;
use crate::processors::Side;

type Service = ipc::Service;

/// Messages are copied into what is loaned, and out of what is borrowed.
pub struct Iceoryx(usize);

/// Messages are handed over where they lie; only their numbers are written and read.
pub struct IceoryxLoan(usize);

pub struct Port<const COPIED: bool> {
    _node: Node<Service>,
    publisher: Publisher<Service, [u8], ()>,
    subscriber: Subscriber<Service, [u8], ()>,
    size: usize,
}

impl Link for Iceoryx {
    const NAME: &'static str = "iceoryx2 (copied)";
    type End = Port<true>;

    fn create(size: usize) -> Iceoryx {
        Iceoryx(size)
    }

    fn open(&self, side: Side) -> Port<true> {
        Port::open(self.0, side)
    }
}

impl Link for IceoryxLoan {
    const NAME: &'static str = "iceoryx2 (loaned)";
    type End = Port<false>;

    fn create(size: usize) -> IceoryxLoan {
        IceoryxLoan(size)
    }

    fn open(&self, side: Side) -> Port<false> {
        Port::open(self.0, side)
    }
}

impl<const COPIED: bool> Port<COPIED> {
    fn open(size: usize, side: Side) -> Self {
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new().config(&config()).create::<Service>().unwrap();
        let (output, input) = match side {
            Side::Left => ("there", "back"),
            Side::Right => ("back", "there"),
        };
        let publisher = publisher(&node, output, size);
        let subscriber = subscriber(&node, input, size);
        Port { _node: node, publisher, subscriber, size }
    }

    fn receive(&self) -> Sample<Service, [u8], ()> {
        for looks in 0.. {
            if let Some(sample) = self.subscriber.receive().unwrap() {
                return sample;
            }
            if looks < 50 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        unreachable!("it looks for ever")
    }
}

impl<const COPIED: bool> End for Port<COPIED> {
    fn send(&mut self, message: &[u8]) {
        let mut loan = self.publisher.loan_slice_uninit(self.size).unwrap();
        if COPIED {
            loan.write_from_slice(message).send().unwrap();
        } else {
            let number = loan.payload_mut().iter_mut().zip(&message[..8]);
            number.for_each(|(byte, new)| _ = byte.write(*new));
            // SAFETY: these are bytes of a mapping, and all of them are bytes whatever they hold.
            unsafe { loan.assume_init() }.send().unwrap();
        }
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        let sample = self.receive();
        let read = if COPIED { self.size } else { 8 };
        buffer[..read].copy_from_slice(&sample.payload()[..read]);
    }
}

/// All its files lie where [`names`] says.
fn config() -> Config {
    let mut config = Config::default();
    let directory = names::directory();
    config.global.set_root_path(&Path::new(directory.as_os_str().as_encoded_bytes()).unwrap());
    config.global.prefix = FileName::new(names::prefix().as_bytes()).unwrap();
    config
}

fn publisher(node: &Node<Service>, name: &str, size: usize) -> Publisher<Service, [u8], ()> {
    let service = service(node, name, size);
    let builder = service.publisher_builder().initial_max_slice_len(size);
    builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create().unwrap()
}

fn subscriber(node: &Node<Service>, name: &str, size: usize) -> Subscriber<Service, [u8], ()> {
    service(node, name, size).subscriber_builder().create().unwrap()
}

type Factory = iceoryx2::service::port_factory::publish_subscribe::PortFactory<Service, [u8], ()>;

fn service(node: &Node<Service>, name: &str, size: usize) -> Factory {
    node.service_builder(&name.try_into().unwrap())
        .publish_subscribe::<[u8]>()
        .history_size(0)
        .subscriber_max_buffer_size(if size <= 4096 { 256 } else { 16 })
        .enable_safe_overflow(false)
        .open_or_create()
        .unwrap()
}
