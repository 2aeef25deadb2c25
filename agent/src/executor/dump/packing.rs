//! One tar made of what several runs of restic send. A folder comes as a tar of its own, whose end is left out; a file comes as it is, and gets a head and its
//! padding. What does not come as the snapshot says breaks the download: an archive that is joined wrongly is worse than none.

use bytes::{Bytes, BytesMut};
use flotilla_proto::NodeKind;

use crate::{process::Through, restic::records::Member};

const BLOCK: usize = 512;
/// What ends a tar: two blocks of zeros. restic (Go) writes exactly these and nothing behind them.
pub(super) const END: &[u8] = &[0; 2 * BLOCK];

/// How one run's output goes into what is sent.
pub(super) enum Joint {
    /// As it is.
    Whole,
    /// As the content of a file in the tar, of which so many bytes came, and so many are to come in all.
    File { came: u64, size: u64 },
    /// A tar whose end is left out: its last bytes, which may be that end.
    Tar { tail: BytesMut },
}

impl Joint {
    /// For an entry of the tar.
    pub(super) fn of(member: &Member) -> Self {
        match member.kind {
            NodeKind::Dir => Self::Tar { tail: BytesMut::new() },
            _ => Self::File { came: 0, size: member.size },
        }
    }

    /// What follows the last piece.
    ///
    /// # Errors
    /// Words for a person, where it did not come as it should have.
    pub(super) fn finish(self) -> Result<Bytes, String> {
        match self {
            Self::Whole => Ok(Bytes::new()),
            Self::File { came, size } if came == size => Ok(Bytes::from(vec![0; padding(came)])),
            Self::File { came, size } => {
                Err(format!("the snapshot says that the file has {size} bytes, and restic sent {came}"))
            }
            Self::Tar { tail } if tail == END => Ok(Bytes::new()),
            Self::Tar { .. } => Err("restic's archive does not end as archives do".to_owned()),
        }
    }
}

impl Through for Joint {
    fn take(&mut self, piece: Bytes) -> Bytes {
        match self {
            Self::Whole => piece,
            Self::File { came, .. } => {
                *came += piece.len() as u64;
                piece
            }
            Self::Tar { tail } => {
                tail.extend_from_slice(&piece);
                tail.split_to(tail.len().saturating_sub(END.len())).freeze()
            }
        }
    }
}

fn padding(size: u64) -> usize {
    // The remainder is under 512.
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// The head of an entry (POSIX.1-2001, pax): its whole path without the slash in front, so that no two picks meet.
pub(super) fn head(member: &Member) -> Bytes {
    let mut name = member.path.trim_start_matches('/').to_owned();
    let (kind, size) = match member.kind {
        NodeKind::Dir => {
            name.push('/');
            (b'5', 0)
        }
        _ => (b'0', member.size),
    };
    let mut records = record("path", &name);
    let mut fitted = |key: &str, value: u64, digits: u32| {
        let fits = value < 8_u64.pow(digits);
        if !fits {
            records.push_str(&record(key, &value.to_string()));
        }
        if fits { value } else { 0 }
    };
    let size = fitted("size", size, 11);
    let (uid, gid) = (fitted("uid", member.uid, 7), fitted("gid", member.gid, 7));
    let (seconds, nanos) = member.mtime;
    let mtime = fitted("mtime", seconds, 11);
    if nanos > 0 {
        records.push_str(&record("mtime", &format!("{seconds}.{nanos:09}")));
    }
    let mut head = Vec::with_capacity(4 * BLOCK);
    head.extend(block(b'x', b"pax", records.len() as u64, [0o644, 0, 0, 0]));
    head.extend(records.as_bytes());
    head.resize(head.len() + padding(records.len() as u64), 0);
    head.extend(block(kind, name.as_bytes(), size, [u64::from(member.mode), uid, gid, mtime]));
    Bytes::from(head)
}

/// `LENGTH key=value` and a line break, where the length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

fn block(kind: u8, name: &[u8], size: u64, [mode, uid, gid, mtime]: [u64; 4]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{mode:07o}\0{uid:07o}\0{gid:07o}\0{size:011o}\0{mtime:011o}\0        ").as_bytes());
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, kind: NodeKind, size: u64) -> Member {
        Member { path: path.to_owned(), kind, size, mtime: (1_795_248_000, 0), mode: 0o640, uid: 1000, gid: 1000 }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record("path", "a"), "9 path=a\n");
        assert_eq!(record("path", &"x".repeat(90)).split(' ').next(), Some("99"));
        assert_eq!(record("path", &"x".repeat(91)).split(' ').next(), Some("101"));
    }

    #[test]
    fn a_file_over_8_gib_has_its_size_in_a_record() {
        let head = head(&member("/var/db.img", NodeKind::File, 9 << 30));
        assert!(String::from_utf8_lossy(&head).contains("19 size=9663676416\n"));
        assert_eq!(head.len(), 3 * BLOCK);
    }

    #[test]
    fn the_end_of_an_archive_stays_out_however_the_pieces_are_cut() {
        let archive = [&[7; 3 * BLOCK], END].concat();
        for size in [1, 511, 1024, 1500, 4000] {
            let mut joint = Joint::of(&member("/srv", NodeKind::Dir, 0));
            let out: Vec<u8> =
                archive.chunks(size).flat_map(|piece| joint.take(Bytes::copy_from_slice(piece)).to_vec()).collect();
            assert_eq!((out.as_slice(), joint.finish()), (&[7; 3 * BLOCK][..], Ok(Bytes::new())), "{size}");
        }
    }

    #[test]
    fn what_came_otherwise_than_the_snapshot_says_is_refused() {
        let mut file = Joint::of(&member("/a", NodeKind::File, 5));
        assert_eq!(file.take(Bytes::from_static(b"four")), "four");
        assert!(file.finish().unwrap_err().contains("has 5 bytes, and restic sent 4"));
        let mut cut = Joint::of(&member("/srv", NodeKind::Dir, 0));
        cut.take(Bytes::from(vec![7; 2000]));
        assert!(cut.finish().is_err());
        assert_eq!(Joint::File { came: 513, size: 513 }.finish().map(|end| end.len()), Ok(511));
    }
}
