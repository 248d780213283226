//! An array with a length: what stands in for `Vec` before there is memory.

use core::ops::Deref;

/// Up to `N` values, in the order in which they came.
#[derive(Copy, Clone, Debug)]
pub struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

/// The list holds all it can.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Full;

impl<T: Copy, const N: usize> List<T, N> {
    /// An empty list; `fill` is what its unused places hold.
    pub const fn new(fill: T) -> List<T, N> {
        List {
            items: [fill; N],
            len: 0,
        }
    }

    /// Adds a value at the end.
    ///
    /// # Errors
    /// [`Full`]: `N` values are in it; nothing changed.
    pub fn push(&mut self, value: T) -> Result<(), Full> {
        *self.items.get_mut(self.len).ok_or(Full)? = value;
        self.len += 1;
        Ok(())
    }

    /// Takes out the value at `index`; those behind it move up.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.len, "no value at {index}");
        self.items.copy_within(index + 1..self.len, index);
        self.len -= 1;
    }

    /// The last value, to change it.
    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.items[..self.len].last_mut()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}
