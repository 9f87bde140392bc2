//! `multiprocess::Manager`, and a dict of its server.

use multiprocess::{Address, Dict, Key, Manager};

use crate::names;
use crate::store::{Batching, Client, Proxying, Store, as_soon_as_served};

/// Many gets are one call.
pub struct OurManager {
    address: Address,
    key: Key,
}

impl Store for OurManager {
    const NAME: &'static str = "multiprocess::Manager";
    type Client = Ours;

    fn create() -> Result<OurManager, String> {
        let address = Address::Unix(names::directory().join("manager"));
        let key = Key::random().map_err(|error| error.to_string())?;
        Ok(OurManager { address, key })
    }

    fn serve(&self) {
        Manager::builder().address(self.address.clone()).auth(self.key.clone()).serve().unwrap();
    }

    fn connect(&self) -> Ours {
        let manager = as_soon_as_served(|| Manager::connect(&self.address, &self.key));
        let dict = manager.dict_named("values").unwrap();
        Ours { manager, dict }
    }
}

pub struct Ours {
    manager: Manager,
    dict: Dict<u64, Vec<u8>>,
}

impl Client for Ours {
    fn set(&mut self, key: u64, value: &[u8]) {
        self.dict.set(&key, value).unwrap();
    }

    fn get(&mut self, key: u64) -> impl AsRef<[u8]> {
        self.dict.get(&key).unwrap().expect("it was set")
    }
}

impl Batching for Ours {
    fn get_many(&mut self, keys: &[u64], mut each: impl FnMut(&[u8])) {
        let values = self.dict.get_many(keys).unwrap();
        values.into_iter().for_each(|value| each(&value.expect("it was set")));
    }
}

impl Proxying for Ours {
    fn make_and_drop(&mut self) {
        drop(self.manager.dict::<u64, Vec<u8>>().unwrap());
    }
}
