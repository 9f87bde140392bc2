//! The clients of this process: all proxies of one server share its links.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ipc_shm::PerProcess;
use parking_lot::Mutex;

use super::{Client, Endpoint};

type Table = Mutex<HashMap<Endpoint, Weak<Client>>>;

pub(super) fn client(endpoint: &Endpoint) -> Arc<Client> {
    static TABLE: PerProcess<Table> = PerProcess::new();
    let mut table = TABLE.get().lock();
    if let Some(client) = table.get(endpoint).and_then(Weak::upgrade) {
        return client;
    }
    table.retain(|_, client| client.strong_count() > 0);
    let client = Arc::new(Client::new(endpoint.clone()));
    table.insert(endpoint.clone(), Arc::downgrade(&client));
    client
}
