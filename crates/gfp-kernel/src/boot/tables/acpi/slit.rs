//! SLIT: distances between domains (ACPI 6.5, 5.2.17).

use super::{AcpiError, HEAD, Signature, Table, u8_at, u64_at};

/// Bytes before the matrix: head, number of domains.
const FIXED: usize = HEAD + 8;
/// Distance of a domain to itself.
const LOCAL: u8 = 10;

/// The table of distances: 10 is local, 20 twice as slow, 255 out of reach.
#[derive(Copy, Clone, Debug)]
pub struct Slit<'m> {
    matrix: &'m [u8],
    domains: usize,
}

impl<'m> Slit<'m> {
    /// # Errors
    /// [`AcpiError`]: it is another table, its matrix is cut off, or its distances contradict what
    /// a distance is: 10 to itself, more to others.
    pub fn new(table: Table<'m>) -> Result<Slit<'m>, AcpiError> {
        let bad = AcpiError::BadLength(Signature(*b"SLIT"));
        let bytes = table.expect(b"SLIT", FIXED)?.bytes();
        let domains = u64_at(bytes, HEAD).and_then(|n| usize::try_from(n).ok());
        let domains = domains.ok_or(bad)?;
        let cells = domains.checked_mul(domains).ok_or(bad)?;
        let matrix = bytes.get(FIXED..).and_then(|m| m.get(..cells)).ok_or(bad)?;
        let sane = matrix.iter().enumerate().all(|(i, distance)| {
            let own = i / domains == i % domains;
            own == (*distance == LOCAL) && *distance >= LOCAL
        });
        sane.then_some(Slit { matrix, domains }).ok_or(bad)
    }

    /// The distance; `None` for a domain that the table does not know.
    pub fn distance(&self, from: u32, to: u32) -> Option<u8> {
        let (from, to) = (from as usize, to as usize);
        if from >= self.domains || to >= self.domains {
            return None;
        }
        u8_at(self.matrix, from * self.domains + to)
    }
}
