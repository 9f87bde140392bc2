//! Things by number. A number is never used again.
//!
//! ```text
//! number   32 bits generation, never 0 | 32 bits place
//! ```

use std::hash::{BuildHasherDefault, Hasher};

/// Maps and sets of numbers that this server gave out: nobody can choose them badly.
pub(super) type ByNumber = BuildHasherDefault<NumberHasher>;

#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: places that follow each other come apart in the upper bits.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    /// Of the value, or of the next one.
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The number that the next value would have.
    pub(super) fn next(&self) -> u64 {
        match self.free.last() {
            Some(place) => number(*place, self.slots[*place as usize].generation),
            None => number(self.slots.len() as u32, 1),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u64 {
        let number = self.next();
        match self.free.pop() {
            Some(place) => self.slots[place as usize].value = Some(value),
            None => self.slots.push(Slot { generation: 1, value: Some(value) }),
        }
        number
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let value = self.slot_mut(number)?.value.take()?;
        self.pass_over(number as u32);
        Some(value)
    }

    /// The next value has another number than [`next`](Slab::next) said.
    pub(super) fn skip(&mut self) {
        match self.free.pop() {
            Some(place) => self.pass_over(place),
            None => {
                self.slots.push(Slot { generation: 1, value: None });
                self.pass_over(self.slots.len() as u32 - 1);
            }
        }
    }

    /// A place that has no value gets its next number; one that had them all is given up.
    fn pass_over(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(place);
        }
    }

    #[inline]
    fn slot_mut(&mut self, number: u64) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(number as u32 as usize)?;
        (slot.generation == (number >> 32) as u32).then_some(slot)
    }

    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let slot = self.slots.get(number as u32 as usize)?;
        if slot.generation == (number >> 32) as u32 { slot.value.as_ref() } else { None }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.slot_mut(number)?.value.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(place, slot)| Some((number(place as u32, slot.generation), slot.value.as_ref()?)))
    }
}

fn number(place: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(place)
}
