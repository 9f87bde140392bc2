//! A death after every single instruction of waiting, notifying and inheriting.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use ipc_sync::{Condition, Lock, Me};

use support::step::Script;
use support::{Child, asleep, fork, procfs, shared, unique, until};

const LONG: Duration = Duration::from_secs(1);

/// What others did and saw.
#[derive(Default)]
struct Account {
    /// The victim is dead: nobody waits for it to come.
    over: AtomicU32,
    /// How many were notified before that.
    told: AtomicU32,
    /// The notifier is through.
    done: AtomicU32,
    woken: AtomicU32,
}

struct Scene {
    /// First, to be killed first: the last user takes the names away.
    children: RefCell<Vec<Child>>,
    lock: Lock,
    condition: Condition,
    account: &'static Account,
}

impl Scene {
    /// Named, so that thousands of them need no arena.
    fn new(account: &'static Account) -> Scene {
        let name = unique("steps");
        [&account.over, &account.told, &account.done, &account.woken]
            .into_iter()
            .for_each(|count| count.store(0, SeqCst));
        let lock = Lock::named(&format!("{name}l")).unwrap();
        let condition = Condition::named(&format!("{name}c")).unwrap();
        Scene { children: RefCell::default(), lock, condition, account }
    }

    fn waits(&self) {
        let guard = self.condition.wait(self.lock.lock().unwrap()).unwrap();
        self.account.woken.fetch_add(1, SeqCst);
        drop(guard);
    }

    /// One more waiter, asleep.
    fn sleeper(&self) -> i32 {
        let child = fork(|| self.waits());
        let pid = child.pid();
        asleep(pid);
        self.children.borrow_mut().push(child);
        pid
    }

    /// A child that does `f` when so many wait, or when the victim is dead.
    fn when(&self, waiters: u32, f: impl FnOnce(&Scene)) {
        let child = fork(|| {
            let text = format!("waiters: {waiters} }}");
            until(|| self.account.over.load(SeqCst) == 1 || self.says(&text));
            f(self);
        });
        self.children.borrow_mut().push(child);
    }

    fn says(&self, text: &str) -> bool {
        format!("{:?}", self.condition).contains(text)
    }

    /// Notifies one, unless the victim was dead before.
    fn tell_one(&self) {
        if self.account.over.load(SeqCst) == 0 {
            self.account.told.store(self.condition.notify_one().unwrap() as u32, SeqCst);
        }
    }

    fn wakes(&self, count: u32) {
        until(|| self.account.woken.load(SeqCst) == count);
    }

    /// The lock is to be had; whether its owner died.
    fn takes_the_lock(&self) -> bool {
        self.lock.lock_timeout(LONG).unwrap().owner_died()
    }

    /// The victim was to be notified before one that came after it. If it died in its wait, the other inherits.
    fn the_younger_inherits(&self, finished: bool) {
        self.account.over.store(1, SeqCst);
        until(|| self.account.done.load(SeqCst) == 1);
        let died_outside = !self.takes_the_lock();
        if self.account.told.load(SeqCst) == 1 && died_outside && !finished {
            return self.wakes(1);
        }
        let woken = || self.account.woken.load(SeqCst);
        until(|| woken() == 1 || self.says("waiters: 1 }"));
        assert!(!finished || woken() == 0, "a notification was given twice");
        self.condition.notify_all().unwrap();
        self.wakes(1);
    }
}

/// The victim is notified, and somebody younger waits behind it.
#[test]
fn a_waiter_dies_on_its_way_in_and_out() {
    let first = Lock::new().unwrap();
    let account = shared::<Account>();
    let _test = support::test(120);
    Script::new(
        "condition wait",
        || Scene::new(account),
        |scene, stage| {
            Me::get().unwrap();
            stage.begin();
            let _guard = scene.condition.wait(scene.lock.lock().unwrap()).unwrap();
            stage.end();
        },
        |scene, fate| scene.the_younger_inherits(fate.finished),
    )
    .meanwhile(|scene| {
        scene.when(1, Scene::waits);
        scene.when(2, |scene| {
            scene.tell_one();
            scene.account.done.store(1, SeqCst);
        });
    })
    .run()
    .assert_clean();
    drop(first);
}

/// The oldest died with a notification, and the victim, next to it, inherits; the youngest inherits from both.
#[test]
fn an_heir_dies_while_it_inherits() {
    let first = Lock::new().unwrap();
    let account = shared::<Account>();
    let _test = support::test(120);
    Script::new(
        "condition heir",
        || {
            let scene = Scene::new(account);
            scene.sleeper();
            scene.children.borrow()[0].signal(libc::SIGSTOP);
            scene
        },
        |scene, stage| {
            Me::get().unwrap();
            stage.begin();
            let _guard = scene.condition.wait(scene.lock.lock().unwrap()).unwrap();
            stage.end();
        },
        |scene, fate| scene.the_younger_inherits(fate.finished),
    )
    .meanwhile(|scene| {
        scene.when(2, Scene::waits);
        scene.when(3, |scene| {
            scene.tell_one();
            let oldest = &scene.children.borrow()[0];
            oldest.signal(libc::SIGKILL);
            until(|| procfs::state(oldest.pid()) == Some('Z'));
            scene.account.done.store(1, SeqCst);
        });
    })
    .run()
    .assert_clean();
    drop(first);
}

/// An older one waits before it and a younger one behind it.
#[test]
fn a_waiter_dies_while_it_gives_up() {
    let first = Lock::new().unwrap();
    let account = shared::<Account>();
    let _test = support::test(120);
    Script::new(
        "condition wait that times out",
        || {
            let scene = Scene::new(account);
            scene.sleeper();
            scene
        },
        |scene, stage| {
            Me::get().unwrap();
            stage.begin();
            let guard = scene.lock.lock().unwrap();
            let _guard = scene.condition.wait_timeout(guard, Duration::from_millis(1)).unwrap();
            stage.end();
        },
        |scene, _| {
            scene.account.over.store(1, SeqCst);
            scene.takes_the_lock();
            until(|| scene.says("waiters: 2 }"));
            scene.children.borrow()[0].signal(libc::SIGSTOP);
            scene.condition.notify_one().unwrap();
            scene.children.borrow()[0].signal(libc::SIGKILL);
            scene.wakes(1); // by the older one, or by the younger one that inherited
        },
    )
    .meanwhile(|scene| scene.when(2, Scene::waits))
    .run()
    .assert_clean();
    drop(first);
}

#[test]
fn a_notifier_dies_at_any_instruction() {
    let first = Lock::new().unwrap();
    let account = shared::<Account>();
    let _test = support::test(120);
    for waiters in 0..3 {
        Script::new(
            &format!("condition notify of {waiters}"),
            || {
                let scene = Scene::new(account);
                (0..waiters).for_each(|_| _ = scene.sleeper());
                scene
            },
            |scene, stage| {
                Me::get().unwrap();
                stage.begin();
                scene.condition.notify(2).unwrap();
                stage.end();
            },
            |scene, fate| {
                if !fate.finished {
                    scene.condition.notify_all().unwrap();
                }
                scene.wakes(waiters);
                scene.takes_the_lock();
            },
        )
        .run()
        .assert_clean();
    }
    drop(first);
}
