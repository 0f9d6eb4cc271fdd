//! `docs/protocol.md` says what the code does: each number in its tables of the upgrade and the segments is held against the constants.

use super::doorbell;
use super::handshake::{GREETING_LEN, Greeting, MAGIC, Refusal};
use super::layout::{self, BELL, CONSUMED, FINISHED, HEADER, LINE, POSITION_BITS, RING, VERSION};
use super::segment::{Segment, SegmentKind};
use crate::error::UpgradeError;
use crate::options::RingCapacity;

/// The page, its lines joined, so that a sentence is found wherever it breaks.
fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    std::fs::read_to_string(path).expect("docs/protocol.md")
}

fn says(sentence: &str) -> bool {
    page().split_whitespace().collect::<Vec<_>>().join(" ").contains(sentence)
}

/// The rows of the table with these headings.
fn table(headings: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
    let page = page();
    let rows = page.lines().skip_while(|line| *line != headings).skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table {headings}");
    rows
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

#[test]
fn a_greeting_is_made_of_the_table() {
    let name = "/genvm-12-00ff";
    let greeting = Greeting {
        kind: SegmentKind::Named,
        never_sleeps: true,
        capacity: RingCapacity::DEFAULT,
        start: 0x1234_5678_9abc,
        name: name.to_owned(),
    };
    let mut bytes = Vec::new();
    for row in table("| offset | size | field | value |") {
        let (offset, size) = (number(&row[0]), number(&row[1]));
        assert_eq!(offset, bytes.len(), "{row:?} does not follow the row above it");
        let value = match row[2].as_str() {
            "magic" => row[3].split(' ').map(|hex| u8::from_str_radix(hex, 16).expect("hex")).collect(),
            "version" => row[3].parse::<u16>().expect("a number").to_le_bytes().to_vec(),
            "kind" | "flags" => vec![1],
            "capacity" => greeting.capacity.bytes().to_le_bytes().to_vec(),
            "start" => greeting.start.to_le_bytes().to_vec(),
            "name_len" => vec![name.len() as u8],
            "name" => name.as_bytes().to_vec(),
            "status" | "reserved" => Vec::new(),
            other => panic!("{other} is no field"),
        };
        bytes.extend(value);
        bytes.resize(offset + size, 0);
    }
    assert_eq!(bytes, greeting.encode());
    assert_eq!(Greeting::decode(bytes[..].try_into().expect("96 bytes")).expect("sound"), greeting);
    assert!(says("greeting, 96 bytes") && says("answer, 96 bytes") && GREETING_LEN == 96);
    assert!(says(&format!("first byte, `{:X}`", MAGIC[0])));
}

#[test]
fn the_bounds_are_those_of_the_table() {
    let rows = table("| offset | size | field | value |");
    let value = |field: &str| rows.iter().find(|row| row[2] == field).expect("a field")[3].clone();
    assert!(value("capacity").ends_with("a power of two from 4096 to 2^30"));
    assert_eq!((RingCapacity::MIN.bytes(), RingCapacity::MAX.bytes()), (4096, 1 << 30));
    assert!(value("start").ends_with("random, from 1 to 2^47"));
    let start = |start: u64| {
        let kind = SegmentKind::Sealed;
        let greeting = Greeting { kind, never_sleeps: false, capacity: RingCapacity::MIN, start, name: String::new() };
        Greeting::decode(&greeting.encode()).is_ok()
    };
    assert!(start(1) && start(1 << 47) && !start(0) && !start((1 << 47) + 1));
    assert!(value("name_len").ends_with("1 to 63 for kind 1"));
}

#[test]
fn refusals_are_those_of_the_table() {
    let refusals = [Refusal::Version, Refusal::Greeting, Refusal::Kind, Refusal::Resources];
    let rows = table("| status | why |");
    assert_eq!(rows.len(), refusals.len());
    for (row, refusal) in rows.iter().zip(refusals) {
        assert_eq!(number(&row[0]), refusal as usize, "{row:?}");
        let mut bytes = [0; GREETING_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12] = number(&row[0]) as u8;
        assert_eq!(bytes, refusal.encode());
    }
    assert!(matches!(Refusal::of(&UpgradeError::Segment(String::new())), Refusal::Greeting));
}

#[test]
fn segments_are_laid_out_as_the_table_says() {
    let rows = table("| offset | size | word | written by the segment's owner |");
    let place = |word: &str| {
        let row = rows.iter().find(|row| row[2] == word).unwrap_or_else(|| panic!("{word} is not in the table"));
        (number(&row[0]), row[1].clone())
    };
    assert_eq!(rows.len(), 5);
    assert_eq!(place("BELL"), (BELL, size_of::<u64>().to_string()));
    assert_eq!(place("FINISHED"), (FINISHED, size_of::<u64>().to_string()));
    assert_eq!(place("CONSUMED"), (CONSUMED, size_of::<u64>().to_string()));
    assert_eq!(place("RING"), (RING, "capacity".to_owned()));
    #[cfg(feature = "shm-named")]
    assert_eq!(place("EVENT"), (layout::EVENT, layout::EVENT_SIZE.to_string()));

    for capacity in [RingCapacity::MIN, RingCapacity::DEFAULT, RingCapacity::MAX] {
        assert_eq!(layout::segment_len(capacity), RING + capacity.bytes() as usize);
        let lines = u64::from(capacity.bytes()) / 64;
        assert_eq!((layout::lines(capacity), layout::max_record_lines(capacity)), (lines, (lines / 4).min(128)));
    }
    assert!(says("of 4096 + `capacity` bytes") && says("Positions count lines of 64 bytes modulo 2^48"));
    assert!(says("at most 128 lines long, at most a quarter of the ring"));
    assert_eq!((LINE, POSITION_BITS), (64, 48));

    let record = table("| offset in the record | size | what |");
    assert_eq!(record[0][..2], ["0".to_owned(), HEADER.to_string()]);
    assert_eq!(record[1][..2], [HEADER.to_string(), "length".to_owned()]);
    assert_eq!(record[0][2], "header: p << 16 \\| length");
}

#[test]
fn the_bell_has_the_bits_of_the_table() {
    let rows = table("| bits | what |");
    let bits: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(bits, ["0", "1", "2–63"]);
    assert_eq!((doorbell::ARMED, doorbell::ONE_ARM), (1 << 0, 1 << 2));
    #[cfg(feature = "shm-named")]
    assert_eq!(doorbell::BY_EVENT, 1 << 1);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_sealed_segment_has_the_seals_of_the_page() {
    let segment = Segment::create(SegmentKind::Sealed, RingCapacity::MIN).expect("a segment");
    let seals = rustix::fs::fcntl_get_seals(segment.handle.descriptor().expect("sealed")).expect("seals");
    assert_eq!(seals.bits(), 0x17);
    assert!(says("`SEAL | SHRINK | GROW | FUTURE_WRITE` (0x17)"));
}
