//! What an administrator asks for: to drop caches (P417, P716), to reclaim from a node (P721).

use super::lru::WEIGHT_MAX;
use core::fmt;
use core::str::FromStr;

/// What is dropped (P417): the values of `vm.drop_caches`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DropCaches {
    /// Pages of the lists that can go without being written.
    Pages = 1,
    /// What shrinkers give.
    Objects = 2,
    /// Both.
    Both = 3,
    /// Nothing; and from now on nobody is told when somebody drops caches.
    Silence = 4,
}

impl DropCaches {
    /// All of them.
    pub const ALL: [DropCaches; 4] = [
        DropCaches::Pages,
        DropCaches::Objects,
        DropCaches::Both,
        DropCaches::Silence,
    ];

    /// That of Linux's number, if there is one: 1 to 4.
    pub fn new(value: i64) -> Option<DropCaches> {
        let mut all = Self::ALL.into_iter();
        all.find(|what| *what as i64 == value)
    }

    /// Pages are dropped.
    pub const fn pages(self) -> bool {
        matches!(self, DropCaches::Pages | DropCaches::Both)
    }

    /// Shrinkers are asked.
    pub const fn objects(self) -> bool {
        matches!(self, DropCaches::Objects | DropCaches::Both)
    }
}

/// As Linux's log says it: `drop_caches: 3`.
impl fmt::Display for DropCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drop_caches: {}", *self as u8)
    }
}

/// P721: what is written to the file `reclaim` of a node: `BYTES [swappiness=N]`.
///
/// ```
/// use gfp::policy::reclaim::manual::NodeReclaim;
/// let request: NodeReclaim = "16M swappiness=0".parse().unwrap();
/// assert_eq!(request, NodeReclaim { bytes: 16 << 20, swappiness: Some(0) });
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NodeReclaim {
    /// So much is to come free; less than a page of it does not count.
    pub bytes: u64,
    /// P714, for this once: 0 to 200.
    pub swappiness: Option<u8>,
}

/// Why a text is no [`NodeReclaim`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodeReclaimError {
    /// The first word is no size: write decimal digits, and `K`, `M` or `G` if you like.
    Bytes,
    /// Something else than `swappiness=0` to `swappiness=200` follows.
    Option,
}

impl fmt::Display for NodeReclaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeReclaimError::Bytes => "not a size: write digits, and K, M or G if you like",
            NodeReclaimError::Option => "after the size only swappiness=0 to swappiness=200",
        })
    }
}

impl core::error::Error for NodeReclaimError {}

impl FromStr for NodeReclaim {
    type Err = NodeReclaimError;

    fn from_str(text: &str) -> Result<NodeReclaim, NodeReclaimError> {
        let mut words = text.split_ascii_whitespace();
        let bytes = words.next().and_then(size).ok_or(NodeReclaimError::Bytes)?;
        let option = |word: &str| {
            let weight = word.strip_prefix("swappiness=").and_then(number)?;
            u8::try_from(weight).ok().filter(|n| *n <= WEIGHT_MAX)
        };
        let swappiness = match words.next() {
            None => None,
            Some(word) => Some(option(word).ok_or(NodeReclaimError::Option)?),
        };
        match words.next() {
            None => Ok(NodeReclaim { bytes, swappiness }),
            Some(_) => Err(NodeReclaimError::Option),
        }
    }
}

/// Decimal digits and nothing else.
fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Digits and `K`, `M` or `G`.
fn size(word: &str) -> Option<u64> {
    let shift = match word.bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        _ => return number(word),
    };
    number(&word[..word.len() - 1])?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn caches_are_dropped_by_the_numbers_1_to_4() {
        // P417, P716
        let drops = |value| DropCaches::new(value).map(|what| (what.pages(), what.objects()));
        assert_eq!(drops(1), Some((true, false)));
        assert_eq!(drops(2), Some((false, true)));
        assert_eq!(drops(3), Some((true, true)));
        assert_eq!(drops(4), Some((false, false)));
        for value in [i64::MIN, -1, 0, 5, 7, 257, i64::MAX] {
            assert_eq!(drops(value), None, "{value}");
        }
        assert_eq!(DropCaches::Both.to_string(), "drop_caches: 3");
    }

    #[test]
    fn a_size_may_be_followed_by_a_swappiness_and_by_nothing_else() {
        // P721, P723
        let request = |bytes, swappiness| Ok(NodeReclaim { bytes, swappiness });
        for (text, parsed) in [
            ("4096", request(4096, None)),
            (" 64K\n", request(64 << 10, None)),
            ("2m swappiness=0", request(2 << 20, Some(0))),
            ("1G swappiness=200\n", request(1 << 30, Some(200))),
            ("0", request(0, None)),
            ("17179869183G", request(17_179_869_183 << 30, None)),
            ("17179869184G", Err(NodeReclaimError::Bytes)),
            ("", Err(NodeReclaimError::Bytes)),
            ("K", Err(NodeReclaimError::Bytes)),
            ("+4096", Err(NodeReclaimError::Bytes)),
            ("-1", Err(NodeReclaimError::Bytes)),
            ("4 K", Err(NodeReclaimError::Option)),
            ("swappiness=60", Err(NodeReclaimError::Bytes)),
            ("4096 swappiness=201", Err(NodeReclaimError::Option)),
            ("4096 swappiness=-1", Err(NodeReclaimError::Option)),
            ("4096 swappiness=+1", Err(NodeReclaimError::Option)),
            ("4096 swappiness=", Err(NodeReclaimError::Option)),
            ("4096 swappiness=60 60", Err(NodeReclaimError::Option)),
        ] {
            assert_eq!(text.parse::<NodeReclaim>(), parsed, "{text:?}");
        }
    }
}
