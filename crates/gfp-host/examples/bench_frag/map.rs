//! The blocks of 2 MiB: what lies in each, as figures and as a picture.

use gfp::frame::PAGEBLOCK_PAGES;
use std::fmt::Write;

/// Blocks of 2 MiB in a superblock of 1 GiB.
const SUPERBLOCK: usize = 512;
/// A superblock is drawn as so many squares beside each other.
const ACROSS: usize = 32;
/// Superblocks beside each other.
const SUPERS: usize = 4;
/// Pixels of a square, and between superblocks.
const SIDE: usize = 5;
const GAP: usize = 6;
/// Pixels above the map.
const HEAD: usize = 44;

#[derive(Copy, Clone, Default)]
struct Use {
    movable: u16,
    unmovable: u16,
}

/// What lies in a block.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Content {
    Free,
    Movable,
    Unmovable,
    Mixed,
}

impl Content {
    const ALL: [(Content, &'static str, &'static str); 4] = [
        (Content::Free, "#e8e8e8", "free"),
        (Content::Movable, "#5b8ec9", "movable"),
        (Content::Unmovable, "#c0392b", "unmovable"),
        (Content::Mixed, "#f0a030", "both"),
    ];
}

impl Use {
    fn content(self) -> Content {
        match (self.movable, self.unmovable) {
            (0, 0) => Content::Free,
            (_, 0) => Content::Movable,
            (0, _) => Content::Unmovable,
            _ => Content::Mixed,
        }
    }
}

pub(crate) struct Map {
    blocks: Vec<Use>,
}

impl Map {
    pub(crate) fn new(pages: usize) -> Map {
        Map {
            blocks: vec![Use::default(); pages.div_ceil(PAGEBLOCK_PAGES)],
        }
    }

    pub(crate) fn add_movable(&mut self, page: usize, pages: usize) {
        self.blocks[page / PAGEBLOCK_PAGES].movable += pages as u16;
    }

    pub(crate) fn add_unmovable(&mut self, page: usize, pages: usize) {
        self.blocks[page / PAGEBLOCK_PAGES].unmovable += pages as u16;
    }

    fn percent(&self, part: usize) -> f64 {
        100.0 * part as f64 / self.blocks.len() as f64
    }

    fn unmovable_pages(&self) -> usize {
        self.blocks.iter().map(|b| usize::from(b.unmovable)).sum()
    }

    fn used_pages(&self) -> usize {
        let movable: usize = self.blocks.iter().map(|b| usize::from(b.movable)).sum();
        movable + self.unmovable_pages()
    }

    pub(crate) fn used_percent(&self) -> f64 {
        self.percent(self.used_pages()) / PAGEBLOCK_PAGES as f64
    }

    /// Of all memory.
    pub(crate) fn unmovable_percent(&self) -> f64 {
        self.percent(self.unmovable_pages()) / PAGEBLOCK_PAGES as f64
    }

    /// Blocks with at least one page that cannot be moved.
    pub(crate) fn tainted_percent(&self) -> f64 {
        self.percent(self.blocks.iter().filter(|b| b.unmovable > 0).count())
    }

    /// The fewest blocks that could hold the same pages.
    pub(crate) fn least_percent(&self) -> f64 {
        self.percent(self.unmovable_pages().div_ceil(PAGEBLOCK_PAGES))
    }

    pub(crate) fn superblocks(&self) -> usize {
        self.blocks.chunks(SUPERBLOCK).len()
    }

    /// Superblocks without a page that cannot be moved.
    pub(crate) fn clean_superblocks(&self) -> usize {
        let clean = |blocks: &&[Use]| blocks.iter().all(|b| b.unmovable == 0);
        self.blocks.chunks(SUPERBLOCK).filter(clean).count()
    }

    /// One small square a block, row by row in tiles of a superblock, lowest address first.
    pub(crate) fn svg(&self) -> String {
        let tile = (ACROSS * SIDE + GAP, SUPERBLOCK / ACROSS * SIDE + GAP);
        let rows = self.superblocks().div_ceil(SUPERS);
        let (width, height) = (SUPERS * tile.0 + GAP, HEAD + rows * tile.1 + GAP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"{GAP}\" y=\"16\">Blocks of 2 MiB, in frames of 1 GiB: {:.2} % hold pages \
             that cannot be moved ({:.2} % of memory)</text>\n",
            self.tainted_percent(),
            self.unmovable_percent(),
        );
        let mut x = GAP;
        for (content, colour, name) in Content::ALL {
            let text = x + 14;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"25\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{text}\" y=\"35\">{name}</text>"
            );
            x += 90;
            let mut path = String::new();
            for (at, block) in self.blocks.iter().enumerate() {
                if block.content() != content {
                    continue;
                }
                let (number, inside) = (at / SUPERBLOCK, at % SUPERBLOCK);
                let left = GAP + number % SUPERS * tile.0 + inside % ACROSS * SIDE;
                let top = HEAD + number / SUPERS * tile.1 + inside / ACROSS * SIDE;
                let side = SIDE - 1;
                let _ = write!(path, "M{left} {top}h{side}v{side}h-{side}z");
            }
            let _ = writeln!(svg, "<path fill=\"{colour}\" d=\"{path}\"/>");
        }
        svg.push_str("</svg>\n");
        svg
    }
}
