//! The queue among other things that one waits for, and in event loops of others.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};

use ipc_pipe::{Readiness, Waitable, Watch};
use ipc_shm::View;
use ipc_sync::{Bell, Me, WakeWord, full_fence};

use crate::channel::Words;
use crate::raw::RawQueue;
use crate::{JoinableQueue, Queue, SimpleQueue};

/// Ready when a get would not wait: for an item, or because the queue is shut down and empty, or closed here.
///
/// ```
/// use ipc_pipe::{pipe, wait};
///
/// let (queue, (here, _there)) = (ipc_queue::Queue::new()?, pipe()?);
/// queue.put(1)?;
/// assert_eq!(wait(&[&here, &queue]), [1]);
/// assert_eq!(queue.try_get()?, 1); // another getter may be faster
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T> Waitable for Queue<T> {
    fn is_ready(&self) -> bool {
        self.raw.is_ready()
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Word(Arc::new(Items {
            words: self.raw.channel.words.clone(),
            queue: Arc::downgrade(&self.raw),
        }))
    }
}

macro_rules! as_the_queue_inside {
    ($($queue:ident),*) => {$(
        /// As the [`Queue`] inside.
        impl<T> Waitable for $queue<T> {
            fn is_ready(&self) -> bool {
                (**self).is_ready()
            }

            fn watch(&self) -> Watch<'_> {
                (**self).watch()
            }
        }
    )*};
}

as_the_queue_inside!(SimpleQueue, JoinableQueue);

impl<T> Queue<T> {
    /// A descriptor for an event loop of others: it becomes readable when something may be got, and when the queue is
    /// shut down. `None` = so it is now. Does not block.
    ///
    /// Call it before each turn of the loop, and get with [`try_get`](Queue::try_get) after it. The descriptor stays the same
    /// one, and readable until the next call: it may be readable in vain, and misses nothing that comes after the call.
    /// Neither read nor write it. All handles of this queue in this process share it, so it is for one loop;
    /// another one takes an [`ipc_pipe::Doorbell`] of its own. [`ipc_pipe::wait`](ipc_pipe::wait()) needs none.
    ///
    /// While it is armed, a thread of this process listens for it.
    ///
    /// # Errors
    ///
    /// No descriptor or no thread could be had.
    ///
    /// ```
    /// use ipc_pipe::{Readable, wait};
    ///
    /// let queue = ipc_queue::Queue::new()?;
    /// let readiness = queue.readiness()?.expect("it is empty");
    /// queue.put("news".to_owned())?;
    /// wait(&[&Readable(&readiness)]); // or epoll, or select
    /// assert_eq!(queue.try_get()?, "news");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "fileno")]
    pub fn readiness(&self) -> io::Result<Option<Readiness>> {
        self.raw.doorbell.arm(self)
    }
}

impl RawQueue {
    /// Whether a get would not wait.
    fn is_ready(&self) -> bool {
        let would_not_wait = |me: Me| self.may_take(&me) || self.channel.is_shut() && self.is_last(&me, true);
        self.is_closed() || Me::get().map_or(true, would_not_wait)
    }
}

/// The bell that items ring. It keeps the word and not the queue, which may keep the doorbell that keeps this.
#[derive(Debug)]
struct Items {
    words: View<Words>,
    queue: Weak<RawQueue>,
}

impl Items {
    fn bell(&self) -> &Bell {
        &self.words.producers.bell
    }
}

impl WakeWord for Items {
    fn arm(&self) -> Option<u32> {
        let hung = self.bell().hang_up();
        full_fence();
        (!self.is_ready()).then_some(hung)
    }

    fn word(&self) -> &AtomicU32 {
        self.bell().word()
    }

    fn is_ready(&self) -> bool {
        self.queue.upgrade().is_none_or(|queue| queue.is_ready())
    }

    fn pass_on(&self) {
        if let (Some(queue), Ok(me)) = (self.queue.upgrade(), Me::get()) {
            queue.channel.pass_on(&me);
        }
    }
}
