//! `Dict`: values by keys, in a server.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batch::{Answers, Pending, Read, Requests, forget_nothing, forget_value};
use super::integer::{self, Integer};
use super::map::{Coded, Key, Map, Part, entry, last_entry, page_entry, page_key, page_value};
use super::talk::{done, flag, nothing, optional};
use super::{Handle, Updated, proxy};
use crate::manager::client::Storing;
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op};

/// A dict that lives in a server process: values by keys, for any number of processes.
///
/// It is a proxy. Cloned, sent in a message or given to a process, it is the same dict; two proxies are equal if they are of
/// the same dict. The dict goes with the last proxy, wherever that is, unless it has a name: then it stays until
/// [`remove`](crate::Manager::remove) or the end of the server.
///
/// Each method is one trip to the server and happens at once: nobody sees half of it. Several of them are several steps, and
/// others may come between; [`update`](Dict::update), [`fetch_add`](Dict::fetch_add) and
/// [`compare_exchange`](Dict::compare_exchange) are for what must be one. [`batch`](Dict::batch) makes many steps in one trip.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Dict, Manager, Process};
///
/// let manager = Manager::start()?;
/// let words: Dict<String, u64> = manager.dict()?;
/// let mut counters = Vec::new();
/// for text in ["to be or not", "to be"] {
///     counters.push(Process::spawn(count, (words.clone(), text.to_owned()))?);
/// }
/// for mut counter in counters {
///     counter.join()?;
/// }
/// assert_eq!(words.get("be")?, Some(2));
/// assert_eq!(words.len()?, 4);
///
/// fn count((words, text): (Dict<String, u64>, String)) {
///     for word in text.split(' ') {
///         words.fetch_add(word, 1).unwrap();
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Keys and values
///
/// Both travel by serde and are bytes to the server. Two keys are the same if they serialize to the same bytes: `String` and
/// `&str` do, `Vec<u8>` and `&[u8]`; `[u8; 4]` and `&[u8]` do not, and -0.0 is not 0.0. Entries stay in the order in which their
/// keys came.
///
/// A value is a copy: to change what [`get`](Dict::get) answered changes nothing in the dict. A *proxy* in a value is no copy:
/// a `Dict<String, List<u64>>` has live lists. The list lives as long as it is in the dict or somebody has a proxy. A proxy
/// in a *key* is an error, and objects that refer to each other in a circle stay until one of them is cleared.
///
/// # What blocks
///
/// Each call waits for the server, which needs some microseconds and never waits for another client. A server that is stopped
/// (SIGSTOP) is waited for.
///
/// # When the server dies
///
/// Every call answers [`CallError::ServerDied`], calls under way included, within 250 ms; whether one under way was done is not
/// known, and it is not repeated. If a server comes back at the same address with the same key, the next call goes on with the
/// dict of the same name; a dict without a name went with its server ([`CallError::Unnamed`]).
///
/// When a client dies, its proxies are gone at once, and what it wrote stays.
#[doc(alias = "DictProxy")]
#[doc(alias = "SyncManager.dict")]
pub struct Dict<K, V> {
    handle: Handle,
    types: PhantomData<fn() -> (K, V)>,
}

proxy!(Dict<K, V>, Kind::Dict);

impl<K, V> Dict<K, V> {
    pub(in crate::manager) fn of(handle: Handle) -> Dict<K, V> {
        Dict { handle, types: PhantomData }
    }

    #[inline]
    fn map(&self) -> Map<'_> {
        Map(&self.handle)
    }

    /// The name it has, if it was made or opened by one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }

    /// How many entries there are.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__len__")]
    pub fn len(&self) -> Result<usize, CallError> {
        self.map().len()
    }

    /// Whether there are none.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn is_empty(&self) -> Result<bool, CallError> {
        self.len().map(|len| len == 0)
    }

    /// Removes all entries.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn clear(&self) -> Result<(), CallError> {
        self.map().clear()
    }
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> Dict<K, V> {
    /// The value of a key; `None` = there is no such key.
    ///
    /// # Errors
    ///
    /// What is stored is not a `V`; else see [`CallError`].
    #[inline]
    #[doc(alias = "__getitem__")]
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.map().get(Coded(key))
    }

    /// Sets the value of a key. What was there before is not sent back: see [`insert`](Dict::insert).
    ///
    /// # Errors
    ///
    /// The value cannot be serialized, is larger than the server takes, or more than it gives this process; else see
    /// [`CallError`].
    #[inline]
    #[doc(alias = "__setitem__")]
    pub fn set<Q, W>(&self, key: &Q, value: &W) -> Result<(), CallError>
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Serialize + ?Sized,
        W: Serialize + ?Sized,
    {
        self.map().set(Coded(key), value)
    }

    /// Sets the value of a key, and answers what it was before.
    ///
    /// # Errors
    ///
    /// As of [`set`](Dict::set). If only the former value is not a `V`, the new one is set.
    pub fn insert<Q, W>(&self, key: &Q, value: &W) -> Result<Option<V>, CallError>
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Serialize + ?Sized,
        W: Serialize + ?Sized,
    {
        self.map().swap(Op::MapInsert, Coded(key), value)
    }

    /// Sets the value of a key that is not there yet: `None`. Else answers the value, which stays.
    ///
    /// # Errors
    ///
    /// As of [`set`](Dict::set).
    pub fn insert_if_absent<Q, W>(&self, key: &Q, value: &W) -> Result<Option<V>, CallError>
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Serialize + ?Sized,
        W: Serialize + ?Sized,
    {
        self.map().swap(Op::MapInsertIfAbsent, Coded(key), value)
    }

    /// The value of a key, which is this one if there is no such key yet.
    ///
    /// ```
    /// # multiprocess::testing!();
    /// # let manager = multiprocess::Manager::start()?;
    /// let dict = manager.dict::<String, u32>()?;
    /// assert_eq!(dict.get_or_insert("a", 1)?, 1);
    /// assert_eq!(dict.get_or_insert("a", 2)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`set`](Dict::set).
    #[doc(alias = "setdefault")]
    pub fn get_or_insert<Q>(&self, key: &Q, value: V) -> Result<V, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.map().swap(Op::MapInsertIfAbsent, Coded(key), &value)?.unwrap_or(value))
    }

    /// Removes a key, and answers the value it had; `None` = there is no such key.
    ///
    /// # Errors
    ///
    /// As of [`get`](Dict::get). If only the value is not a `V`, the key is removed.
    #[doc(alias = "pop")]
    #[doc(alias = "__delitem__")]
    pub fn remove<Q>(&self, key: &Q) -> Result<Option<V>, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.map().take(Coded(key))
    }

    /// Removes the entry that came last, and answers it; `None` = there is none.
    ///
    /// # Errors
    ///
    /// As of [`remove`](Dict::remove).
    #[doc(alias = "popitem")]
    pub fn pop_last(&self) -> Result<Option<(K, V)>, CallError> {
        self.handle.call(Op::MapPopLast, nothing, last_entry)
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__contains__")]
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.map().contains(Coded(key))
    }

    /// Sets many entries, all of them at one moment, in one trip. Nobody sees some of them.
    ///
    /// # Errors
    ///
    /// As of [`set`](Dict::set); all of them together must fit in one message. Then none is set.
    #[doc(alias = "update")]
    #[doc(alias = "update_many")]
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), CallError> {
        self.map().extend(|message, storing| {
            let mut count = 0;
            for (key, value) in entries {
                entry(Coded(&key), &value)(message, storing)?;
                count += 1;
            }
            Ok(count)
        })
    }

    /// The values of many keys, as they are at one moment, in one trip.
    ///
    /// # Errors
    ///
    /// As of [`get`](Dict::get); all answers together must fit in one message.
    pub fn get_many<'k, Q>(&self, keys: impl IntoIterator<Item = &'k Q>) -> Result<Vec<Option<V>>, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized + 'k,
    {
        let mut batch = self.batch();
        let pending: Vec<_> = keys.into_iter().map(|key| batch.get(key)).collect();
        let mut answers = batch.run()?;
        pending.into_iter().map(|pending| answers.take(pending)).collect()
    }

    /// Removes many keys at one moment, in one trip; answers how many there were.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn remove_many<'k, Q>(&self, keys: impl IntoIterator<Item = &'k Q>) -> Result<usize, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized + 'k,
    {
        let mut batch = self.batch();
        let removal = |key| batch.push_key(Op::MapRemove, key, flag);
        let pending: Vec<_> = keys.into_iter().map(removal).collect();
        let mut answers = batch.run()?;
        pending.into_iter().try_fold(0, |count, removed| Ok(count + usize::from(answers.take(removed)?)))
    }

    /// All keys, in their order. See [`iter`](Dict::iter) for what changes meanwhile.
    ///
    /// # Errors
    ///
    /// A key is not a `K`; else see [`CallError`].
    pub fn keys(&self) -> Result<Vec<K>, CallError> {
        self.map().pages(Part::Keys, page_key)
    }

    /// All values, in the order of their keys. See [`iter`](Dict::iter) for what changes meanwhile.
    ///
    /// # Errors
    ///
    /// A value is not a `V`; else see [`CallError`].
    pub fn values(&self) -> Result<Vec<V>, CallError> {
        self.map().pages(Part::Values, page_value)
    }

    /// All entries, in their order. See [`iter`](Dict::iter) for what changes meanwhile.
    ///
    /// # Errors
    ///
    /// An entry is not a `(K, V)`; else see [`CallError`].
    pub fn items(&self) -> Result<Vec<(K, V)>, CallError> {
        self.map().pages(Part::Both, page_entry)
    }

    /// All entries, as a map of this process. See [`iter`](Dict::iter) for what changes meanwhile.
    ///
    /// # Errors
    ///
    /// As of [`items`](Dict::items).
    #[doc(alias = "_getvalue")]
    pub fn copy(&self) -> Result<HashMap<K, V>, CallError>
    where
        K: Eq + Hash,
    {
        self.items().map(|items| items.into_iter().collect())
    }

    /// Entry after entry, in their order, fetched in pages of up to 256 KiB. Nothing is held meanwhile, and nobody waits.
    ///
    /// A page is of one moment. An entry that is there from the first page to the last comes exactly once, with the value
    /// that it has when its page is fetched; one that comes or goes meanwhile may come or not.
    ///
    /// ```
    /// # multiprocess::testing!();
    /// # let manager = multiprocess::Manager::start()?;
    /// let dict = manager.dict::<u32, u32>()?;
    /// dict.extend((0..10).map(|n| (n, n * n)))?;
    /// for entry in dict.iter() {
    ///     let (n, square) = entry?;
    ///     assert_eq!(square, n * n);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "__iter__")]
    pub fn iter(&self) -> Entries<K, V> {
        Entries { dict: self.clone(), page: Vec::new().into_iter(), next: Some(0) }
    }

    /// Changes the value of a key in one step: `change` gets the value, or `None` if there is none, and answers the new one, or
    /// `None` to remove it.
    ///
    /// If somebody else changes the value meanwhile, `change` is called again with the newer one. [`Updated`] says how often
    /// that happened, and what the value is now. Nothing is held meanwhile: who dies in `change` has changed nothing. The old and the
    /// new value go in one message, and must fit there together.
    ///
    /// ```
    /// # multiprocess::testing!();
    /// # let manager = multiprocess::Manager::start()?;
    /// let dict = manager.dict::<String, Vec<u32>>()?;
    /// dict.update("primes", |primes| {
    ///     let mut primes = primes.unwrap_or_default();
    ///     primes.push(2);
    ///     Some(primes)
    /// })?;
    /// assert_eq!(dict.get("primes")?, Some(vec![2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`get`](Dict::get) and [`set`](Dict::set). Then nothing was changed, except perhaps by a server that died.
    pub fn update<Q>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> Option<V>,
    ) -> Result<Updated<Option<V>>, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.map().update(Coded(key), change)
    }

    /// Changes the value of a key in place, in one step, as [`update`](Dict::update) does; false = there is no such key.
    ///
    /// # Errors
    ///
    /// As of [`update`](Dict::update).
    pub fn modify<Q>(&self, key: &Q, mut change: impl FnMut(&mut V)) -> Result<bool, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let change = |value: Option<V>| {
            let mut value = value?;
            change(&mut value);
            Some(value)
        };
        Ok(self.update(key, change)?.value.is_some())
    }

    /// Sets the value of a key to `new` if it is `expected`; `None` = no such key. Else answers what it is, as an error inside.
    ///
    /// Values are the same if they serialize to the same bytes.
    ///
    /// # Errors
    ///
    /// As of [`get`](Dict::get) and [`set`](Dict::set).
    pub fn compare_exchange<Q>(
        &self,
        key: &Q,
        expected: Option<&V>,
        new: Option<&V>,
    ) -> Result<Result<(), Option<V>>, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.map().compare_exchange(Coded(key), expected, new)
    }

    /// Many steps in one trip; nobody comes between them. See [`Batch`].
    pub fn batch(&self) -> Batch<K, V> {
        Batch { requests: Requests::new(&self.handle), types: PhantomData }
    }
}

impl<K: Serialize + DeserializeOwned, V: Integer> Dict<K, V> {
    /// Adds to the number of a key, in one step at the server, and answers what it was before. It wraps around at its ends. A
    /// key that is not there counts as 0.
    ///
    /// # Errors
    ///
    /// [`CallError::NotThatInteger`]: what is stored is no `V`. Else see [`CallError`].
    #[doc(alias = "Counter")]
    pub fn fetch_add<Q>(&self, key: &Q, number: V) -> Result<V, CallError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.map().add(Coded(key), number)
    }
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> IntoIterator for &Dict<K, V> {
    type Item = Result<(K, V), CallError>;
    type IntoIter = Entries<K, V>;

    fn into_iter(self) -> Entries<K, V> {
        self.iter()
    }
}

/// The entries of a [`Dict`], page by page; see [`Dict::iter`]. After an error it ends.
pub struct Entries<K, V> {
    dict: Dict<K, V>,
    page: std::vec::IntoIter<(K, V)>,
    /// `None` = there are no more pages.
    next: Option<u64>,
}

impl<K: DeserializeOwned, V: DeserializeOwned> Iterator for Entries<K, V> {
    type Item = Result<(K, V), CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            match self.dict.map().page(self.next.take()?, Part::Both, page_entry) {
                Ok((next, page)) => {
                    self.next = Some(next).filter(|next| *next != 0);
                    self.page = page.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<K, V> fmt::Debug for Entries<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("dict", &self.dict).finish_non_exhaustive()
    }
}

/// Many steps on a [`Dict`] that are made in one trip, and between which nobody comes.
///
/// Each method answers a [`Pending`], by which its own answer is found after [`run`](Batch::run). A step that fails does not stop
/// those after it. Until `run` nothing is sent.
///
/// ```
/// # multiprocess::testing!();
/// # let manager = multiprocess::Manager::start()?;
/// let dict = manager.dict::<String, u64>()?;
/// let mut batch = dict.batch();
/// batch.set("a", &1);
/// let a = batch.get("a");
/// let b = batch.remove("b");
/// let former = batch.fetch_add("a", 5);
/// let mut answers = batch.run()?;
/// assert_eq!(answers.take(a)?, Some(1));
/// assert_eq!(answers.take(b)?, None);
/// assert_eq!(answers.take(former)?, 1);
/// assert_eq!(dict.get("a")?, Some(6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "pipeline")]
pub struct Batch<K, V> {
    requests: Requests,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> Batch<K, V> {
    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push_key<Q, T>(&mut self, op: Op, key: &Q, read: Read<T>) -> Pending<T>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.requests.push(op, |message, _| Coded(key).put(message), read, forget_value)
    }

    /// As [`Dict::get`].
    #[inline]
    pub fn get<Q>(&mut self, key: &Q) -> Pending<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_key(Op::MapGet, key, optional)
    }

    /// As [`Dict::set`].
    #[inline]
    pub fn set<Q, W>(&mut self, key: &Q, value: &W) -> Pending<()>
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Serialize + ?Sized,
        W: Serialize + ?Sized,
    {
        self.requests.push(Op::MapSet, entry(Coded(key), value), done, forget_nothing)
    }

    /// As [`Dict::insert`].
    pub fn insert<Q, W>(&mut self, key: &Q, value: &W) -> Pending<Option<V>>
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Serialize + ?Sized,
        W: Serialize + ?Sized,
    {
        self.requests.push(Op::MapInsert, entry(Coded(key), value), optional, forget_value)
    }

    /// As [`Dict::insert_if_absent`].
    pub fn insert_if_absent<Q, W>(&mut self, key: &Q, value: &W) -> Pending<Option<V>>
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Serialize + ?Sized,
        W: Serialize + ?Sized,
    {
        self.requests.push(Op::MapInsertIfAbsent, entry(Coded(key), value), optional, forget_value)
    }

    /// As [`Dict::remove`].
    pub fn remove<Q>(&mut self, key: &Q) -> Pending<Option<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_key(Op::MapRemove, key, optional)
    }

    /// As [`Dict::contains_key`].
    pub fn contains_key<Q>(&mut self, key: &Q) -> Pending<bool>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.push_key(Op::MapContains, key, flag)
    }

    /// Makes all steps, and answers what came of each.
    ///
    /// # Errors
    ///
    /// A key or value cannot be serialized, or all together do not fit in one message: then nothing was done. Else see
    /// [`CallError`].
    pub fn run(self) -> Result<Answers, CallError> {
        self.requests.run()
    }
}

impl<K: Serialize + DeserializeOwned, V: Integer> Batch<K, V> {
    /// As [`Dict::fetch_add`].
    pub fn fetch_add<Q>(&mut self, key: &Q, number: V) -> Pending<V>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            Coded(key).put(message)?;
            integer::put(number, message);
            Ok(())
        };
        self.requests.push(Op::MapAdd, write, integer::former, forget_nothing)
    }
}

impl<K, V> fmt::Debug for Batch<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.requests.len()).finish()
    }
}
