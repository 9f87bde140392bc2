//! `tarpc` over a Unix socket: a dict behind remote calls, written as its book does it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::future::join_all;
use tarpc::client::Config;
use tarpc::context::{self, Context};
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tokio::runtime::{Builder, Runtime};

use crate::names;
use crate::store::{Batching, Client, Store, as_soon_as_served};

#[tarpc::service]
trait Dictionary {
    async fn get(key: u64) -> Vec<u8>;
    async fn set(key: u64, value: Vec<u8>);
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<HashMap<u64, Vec<u8>>>>);

impl Dictionary for Server {
    async fn get(self, _: Context, key: u64) -> Vec<u8> {
        self.0.lock().unwrap()[&key].clone()
    }

    async fn set(self, _: Context, key: u64, value: Vec<u8>) {
        self.0.lock().unwrap().insert(key, value);
    }
}

/// Many gets are so many calls under way at the same time.
pub struct Tarpc {
    socket: PathBuf,
}

impl Store for Tarpc {
    const NAME: &'static str = "tarpc";
    type Client = Caller;

    fn create() -> Result<Tarpc, String> {
        Ok(Tarpc { socket: names::directory().join("tarpc") })
    }

    fn serve(&self) {
        runtime().block_on(async {
            let server = Server::default();
            let mut clients = unix::listen(&self.socket, Bincode::default).await.unwrap();
            while let Some(client) = clients.next().await {
                let channel = BaseChannel::with_defaults(client.unwrap());
                let calls = channel.execute(server.clone().serve());
                tokio::spawn(calls.for_each(async |call| _ = tokio::spawn(call)));
            }
        });
    }

    fn connect(&self) -> Caller {
        let runtime = runtime();
        let connect = || runtime.block_on(unix::connect(&self.socket, Bincode::default));
        let transport = as_soon_as_served(connect);
        let client = runtime.block_on(async { DictionaryClient::new(Config::default(), transport).spawn() });
        Caller { runtime, client }
    }
}

/// All on the calling thread: the other processor belongs to the other side.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub struct Caller {
    runtime: Runtime,
    client: DictionaryClient,
}

impl Client for Caller {
    fn set(&mut self, key: u64, value: &[u8]) {
        self.runtime.block_on(self.client.set(context::current(), key, value.to_vec())).unwrap();
    }

    fn get(&mut self, key: u64) -> impl AsRef<[u8]> {
        self.runtime.block_on(self.client.get(context::current(), key)).unwrap()
    }
}

impl Batching for Caller {
    fn get_many(&mut self, keys: &[u64], mut each: impl FnMut(&[u8])) {
        let calls = keys.iter().map(|&key| self.client.get(context::current(), key));
        let values = self.runtime.block_on(join_all(calls));
        values.into_iter().for_each(|value| each(&value.unwrap()));
    }
}
