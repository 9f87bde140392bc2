//! `Namespace`: values of any types by names, in a server.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::integer::Integer;
use super::map::{Map, Part, Text};
use super::{Handle, Updated, proxy};
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Malformed};

/// Values of different types by names, that live in a server process.
///
/// It is a proxy, as [`Dict`](super::Dict) is, and all that is said there of copies, of names, of what blocks and of death
/// holds here. Who gets a value names its type.
///
/// ```
/// # multiprocess::testing!();
/// # let manager = multiprocess::Manager::start()?;
/// let settings = manager.namespace()?;
/// settings.set("depth", &3u32)?;
/// settings.set("start", "https://example.org")?;
/// assert_eq!(settings.get::<u32>("depth")?, Some(3));
/// assert_eq!(settings.names()?, ["depth", "start"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "NamespaceProxy")]
#[doc(alias = "SyncManager.Namespace")]
pub struct Namespace {
    handle: Handle,
}

proxy!(Namespace, Kind::Namespace);

impl Namespace {
    pub(in crate::manager) fn of(handle: Handle) -> Namespace {
        Namespace { handle }
    }

    fn map(&self) -> Map<'_> {
        Map(&self.handle)
    }

    /// The name it has itself, if it was made or opened by one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }

    /// The value of a name; `None` = there is no such name.
    ///
    /// # Errors
    ///
    /// It is not a `T`; else see [`CallError`]. Bytes do not tell their type: a `u32` that was stored as four `u8` is one.
    #[doc(alias = "__getattr__")]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CallError> {
        self.map().get(Text(name))
    }

    /// Sets the value of a name.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__setattr__")]
    pub fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), CallError> {
        self.map().set(Text(name), value)
    }

    /// Removes a name; false = there is no such name.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__delattr__")]
    pub fn remove(&self, name: &str) -> Result<bool, CallError> {
        self.map().remove(Text(name))
    }

    /// Whether there is such a name.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "hasattr")]
    pub fn contains(&self, name: &str) -> Result<bool, CallError> {
        self.map().contains(Text(name))
    }

    /// All names, in the order in which they came.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "dir")]
    pub fn names(&self) -> Result<Vec<String>, CallError> {
        self.map().pages(Part::Keys, |rest, _| match String::from_utf8(rest.bytes()?.to_vec()) {
            Ok(name) => Ok(name),
            Err(_) => Err(Malformed.into()),
        })
    }

    /// How many names there are.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
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

    /// Removes all names.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn clear(&self) -> Result<(), CallError> {
        self.map().clear()
    }

    /// Changes the value of a name in one step, as [`Dict::update`](super::Dict::update) does.
    ///
    /// # Errors
    ///
    /// As of [`get`](Namespace::get) and [`set`](Namespace::set).
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Updated<Option<T>>, CallError> {
        self.map().update(Text(name), change)
    }

    /// Sets the value of a name to `new` if it is `expected`; `None` = no such name. Else answers what it is, as an error inside.
    ///
    /// # Errors
    ///
    /// As of [`get`](Namespace::get) and [`set`](Namespace::set).
    pub fn compare_exchange<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<Result<(), Option<T>>, CallError> {
        self.map().compare_exchange(Text(name), expected, new)
    }

    /// Adds to the number of a name, in one step at the server, and answers what it was before. It wraps around at its ends. A
    /// name that is not there counts as 0.
    ///
    /// # Errors
    ///
    /// [`CallError::NotThatInteger`]: what is stored is no `N`. Else see [`CallError`].
    pub fn fetch_add<N: Integer>(&self, name: &str, number: N) -> Result<N, CallError> {
        self.map().add(Text(name), number)
    }
}
