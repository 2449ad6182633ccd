//! The hash tree over a file: BLAKE3's own, cut at chunks, so that its root is the file's BLAKE3 hash
//! and every chunk can be checked on its own against it.
//!
//! The sender keeps the tree in a file, 64 bytes for each chunk of 256 KiB, so that memory does not
//! grow with what is sent. Level 0 are the chunks; each level above joins two by two, and what is left
//! over at its end rises as it is.

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use amop_protocol::wire::files::{chunks, extent};
use blake3::{
    CHUNK_LEN, Hash, Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};
use bytes::{Bytes, BytesMut};

use super::disk::{read_exact_at, write_all_at};

/// Bytes of a hash.
pub(super) const HASH: usize = 32;
/// Threads that hash at once.
const MAX_THREADS: usize = 4;
const _: () = assert!(amop_protocol::wire::files::CHUNK.is_multiple_of(CHUNK_LEN as u64));

/// The tree, on disk.
#[derive(Debug)]
pub(super) struct Tree {
    file: File,
    /// Where each level begins, counted in hashes, and how many it has. None for a file of one chunk.
    levels: Vec<(u64, u64)>,
    root: [u8; HASH],
}

/// How far the hashing of a file is, and whether to go on.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    pub(super) done: AtomicU64,
    pub(super) stop: AtomicBool,
}

impl Tree {
    /// Reads `source`, of `size` bytes, and writes its tree into `file`.
    ///
    /// # Errors
    /// When a file cannot be read or written, `source` is shorter, or it was to stop.
    pub(super) fn build(source: &File, size: u64, file: File, progress: &Hashing) -> io::Result<Self> {
        let count = chunks(size);
        hash_leaves(source, size, &file, progress)?;
        let levels = levels(count);
        for pair in levels.windows(2) {
            let [below, level] = [pair[0], pair[1]];
            join(&file, below, level)?;
        }
        let root = root(&file, source, size, &levels)?;
        Ok(Self { file, levels, root })
    }

    /// A tree that was built before, over a file of `size` bytes with this root.
    ///
    /// # Errors
    /// When the file cannot be read, or is no tree with this root.
    pub(super) fn open(file: File, size: u64, root: [u8; HASH]) -> io::Result<Self> {
        let levels = levels(chunks(size));
        if let Some(top) = levels.last() {
            let [left, right] = two(&file, top.0)?;
            if merge_subtrees_root(&left, &right, Mode::Hash) != root {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not the hash tree of this file"));
            }
        }
        Ok(Self { file, levels, root })
    }

    /// BLAKE3 of the file.
    pub(super) fn root(&self) -> [u8; HASH] {
        self.root
    }

    /// What a chunk is checked with: the hashes beside its way up, lowest first.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub(super) fn proof(&self, index: u64) -> io::Result<Bytes> {
        let mut proof = BytesMut::with_capacity(self.levels.len() * HASH);
        let mut at = index;
        for (begins, len) in &self.levels {
            let beside = at ^ 1;
            if beside < *len {
                let mut hash = [0; HASH];
                read_exact_at(&self.file, &mut hash, (begins + beside) * HASH as u64)?;
                proof.extend_from_slice(&hash);
            }
            at /= 2;
        }
        Ok(proof.freeze())
    }
}

/// The hash of a chunk if it is, as `proof` shows, that part of the file with this root.
///
/// Of a file that is one chunk, its hash is the root.
pub(super) fn verify(
    root: &[u8; HASH],
    size: u64,
    index: u64,
    data: &[u8],
    proof: &[u8],
) -> Option<ChainingValue> {
    let (at, len) = extent(size, index)?;
    if len != data.len() || !proof.len().is_multiple_of(HASH) {
        return None;
    }
    if chunks(size) == 1 {
        let hash = blake3::hash(data);
        return (proof.is_empty() && hash == *root).then_some(*hash.as_bytes());
    }
    let leaf = hash_chunk(at, data);
    let mut proof = proof.chunks_exact(HASH).map(|hash| ChainingValue::try_from(hash).ok());
    let (mut hash, mut at, mut len) = (leaf, index, chunks(size));
    while len > 2 {
        if at ^ 1 < len {
            hash = merge(at, hash, proof.next()??, merge_subtrees_non_root);
        }
        (at, len) = (at / 2, len.div_ceil(2));
    }
    let top: Hash = merge(at, hash, proof.next()??, merge_subtrees_root);
    (proof.next().is_none() && top == *root).then_some(leaf)
}

/// The hash of a chunk of a file of several.
fn hash_chunk(at: u64, data: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset(at).update(data).finalize_non_root()
}

/// The hash of a chunk as [`verify`] gives it.
pub(super) fn leaf(size: u64, index: u64, data: &[u8]) -> ChainingValue {
    match extent(size, index) {
        Some((at, _)) if chunks(size) > 1 => hash_chunk(at, data),
        _ => *blake3::hash(data).as_bytes(),
    }
}

/// The root over the hashes of all chunks of a file; of an empty one it is that of nothing.
pub(super) fn root_of(
    leaves: impl Iterator<Item = io::Result<ChainingValue>>,
    count: u64,
) -> io::Result<[u8; HASH]> {
    // A stack of subtrees, each half as large as the one below it, or less.
    let mut stack: Vec<ChainingValue> = Vec::new();
    for (index, leaf) in (0_u64..).zip(leaves) {
        if count == 1 {
            return leaf;
        }
        let mut subtree = leaf?;
        let last = index + 1 == count;
        // As many whole subtrees end here as the number of leaves so far has zeros at its end.
        let mut left = if last { stack.len() as u32 } else { (index + 1).trailing_zeros() };
        while left > 0
            && let Some(before) = stack.pop()
        {
            left -= 1;
            if last && stack.is_empty() {
                return Ok(*merge_subtrees_root(&before, &subtree, Mode::Hash).as_bytes());
            }
            subtree = merge_subtrees_non_root(&before, &subtree, Mode::Hash);
        }
        stack.push(subtree);
    }
    Ok(*blake3::hash(b"").as_bytes())
}

fn merge<H>(
    at: u64,
    hash: ChainingValue,
    beside: ChainingValue,
    merge: impl Fn(&ChainingValue, &ChainingValue, Mode<'_>) -> H,
) -> H {
    if at.is_multiple_of(2) { merge(&hash, &beside, Mode::Hash) } else { merge(&beside, &hash, Mode::Hash) }
}

fn levels(count: u64) -> Vec<(u64, u64)> {
    let (mut levels, mut at, mut len) = (Vec::new(), 0, count);
    while len > 1 {
        levels.push((at, len));
        (at, len) = (at + len, len.div_ceil(2));
    }
    levels
}

/// All chunks, each by whichever thread is free.
fn hash_leaves(source: &File, size: u64, file: &File, progress: &Hashing) -> io::Result<()> {
    let count = chunks(size);
    if count < 2 {
        return Ok(());
    }
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS);
    let next = AtomicU64::new(0);
    let work = || {
        let mut data = Vec::new();
        while !progress.stop.load(Ordering::Relaxed)
            && let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some((at, len)) = extent(size, index)
        {
            data.resize(len, 0);
            read_exact_at(source, &mut data, at)?;
            write_all_at(file, &hash_chunk(at, &data), index * HASH as u64)?;
            progress.done.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    let hashed: io::Result<()> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let died = || Err(io::Error::other("a thread that hashes died"));
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| died()))
    });
    hashed?;
    if progress.stop.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// Makes a level out of the one below it.
fn join(file: &File, (below, len): (u64, u64), (level, _): (u64, u64)) -> io::Result<()> {
    /// Hashes read in one go; even.
    const STEP: u64 = 4_096;
    let mut from = 0;
    let mut read = Vec::new();
    while from < len {
        let count = STEP.min(len - from);
        read.resize(count as usize * HASH, 0);
        read_exact_at(file, &mut read, (below + from) * HASH as u64)?;
        let mut joined = Vec::with_capacity(read.len() / 2 + HASH);
        for pair in read.chunks(2 * HASH) {
            match pair.split_first_chunk::<HASH>() {
                Some((left, right)) => match ChainingValue::try_from(right) {
                    Ok(right) => joined.extend(merge_subtrees_non_root(left, &right, Mode::Hash)),
                    Err(_) => joined.extend(left),
                },
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        write_all_at(file, &joined, (level + from / 2) * HASH as u64)?;
        from += count;
    }
    Ok(())
}

fn root(file: &File, source: &File, size: u64, levels: &[(u64, u64)]) -> io::Result<[u8; HASH]> {
    let hash = match levels.last() {
        Some((top, _)) => {
            let [left, right] = two(file, *top)?;
            merge_subtrees_root(&left, &right, Mode::Hash)
        }
        // One chunk, or none.
        None => {
            let mut data = vec![0; size as usize];
            read_exact_at(source, &mut data, 0)?;
            blake3::hash(&data)
        }
    };
    Ok(*hash.as_bytes())
}

fn two(file: &File, at: u64) -> io::Result<[ChainingValue; 2]> {
    let mut both = [[0; HASH]; 2];
    read_exact_at(file, both.as_flattened_mut(), at * HASH as u64)?;
    Ok(both)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use amop_protocol::wire::files::CHUNK;

    use super::*;

    fn content(size: u64) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        Hasher::new().update(&size.to_be_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn tree(content: &[u8]) -> Tree {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(content).unwrap();
        let progress = Hashing::default();
        let tree =
            Tree::build(&source, content.len() as u64, tempfile::tempfile().unwrap(), &progress).unwrap();
        let hashed = if content.len() as u64 > CHUNK { content.len() as u64 } else { 0 };
        assert_eq!(progress.done.into_inner(), hashed);
        tree
    }

    fn sizes() -> impl Iterator<Item = u64> {
        let counts = 0..=17;
        counts.flat_map(|count| {
            [count * CHUNK, count * CHUNK + 1, (count * CHUNK).saturating_sub(1), count * CHUNK + 5_000]
        })
    }

    #[test]
    fn the_root_is_the_hash_of_the_file_and_every_chunk_proves_to_be_part_of_it() {
        for size in sizes() {
            let content = content(size);
            let tree = tree(&content);
            assert_eq!(tree.root(), *blake3::hash(&content).as_bytes(), "{size}");
            let mut leaves = Vec::new();
            for (index, data) in (0..).zip(content.chunks(CHUNK as usize)) {
                let proof = tree.proof(index).unwrap();
                let verified = verify(&tree.root(), size, index, data, &proof);
                assert_eq!(verified, Some(leaf(size, index, data)), "{size} {index}");
                leaves.push(Ok(verified.unwrap()));
            }
            assert_eq!(root_of(leaves.into_iter(), chunks(size)).unwrap(), tree.root(), "{size}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_a_chunk() {
        let size = 5 * CHUNK + 77;
        let content = content(size);
        let tree = tree(&content);
        let chunk = |index: usize| &content[index * CHUNK as usize..][..CHUNK as usize];
        let (proof, root) = (tree.proof(1).unwrap(), tree.root());
        assert!(verify(&root, size, 1, chunk(1), &proof).is_some());
        let mut bent = chunk(1).to_vec();
        bent[CHUNK as usize - 1] ^= 1;
        assert_eq!(verify(&root, size, 1, &bent, &proof), None);
        assert_eq!(verify(&root, size, 1, chunk(2), &proof), None, "another chunk");
        assert_eq!(verify(&root, size, 2, chunk(1), &proof), None, "another place");
        assert_eq!(verify(&root, size, 0, chunk(1), &proof), None, "the place beside");
        assert_eq!(verify(&root, size, 1, &chunk(1)[1..], &proof), None, "cut");
        assert_eq!(verify(&root, size, 1, chunk(1), &proof[HASH..]), None, "a short proof");
        assert_eq!(
            verify(&root, size, 1, chunk(1), &[&proof[..], &[0; HASH]].concat()),
            None,
            "a long proof"
        );
        assert_eq!(verify(&root, size, 1, chunk(1), &[&proof[..], &[0; 5]].concat()), None, "an odd proof");
        assert_eq!(verify(&root, size, 6, &[], &proof), None, "no such chunk");
        assert_eq!(verify(&root, size, u64::MAX, &[], &proof), None, "no such chunk");
        assert_eq!(
            verify(&root, size + 1, 1, chunk(1), &proof),
            Some(leaf(size, 1, chunk(1))),
            "the size of others"
        );
        assert_eq!(verify(&root, size + CHUNK * 9, 1, chunk(1), &proof), None, "another shape");
        assert_eq!(verify(&[0; HASH], size, 1, chunk(1), &proof), None, "another root");
    }

    #[test]
    fn a_file_of_one_chunk_has_no_proof() {
        let root = *blake3::hash(b"short").as_bytes();
        assert_eq!(verify(&root, 5, 0, b"short", &[]), Some(root));
        assert_eq!(verify(&root, 5, 0, b"other", &[]), None);
        assert_eq!(verify(&root, 5, 0, b"short", &[0; HASH]), None);
    }

    #[test]
    fn a_tree_is_found_again_and_nothing_else_is_taken_for_it() {
        let content = content(3 * CHUNK);
        let built = tree(&content);
        let (size, root) = (content.len() as u64, built.root());
        let again = Tree::open(built.file.try_clone().unwrap(), size, root).unwrap();
        assert_eq!(again.proof(2).unwrap(), built.proof(2).unwrap());
        assert!(Tree::open(tempfile::tempfile().unwrap(), size, root).is_err());
        assert!(Tree::open(built.file.try_clone().unwrap(), size, [0; HASH]).is_err());
    }

    #[test]
    fn hashing_stops_when_told_to_and_when_the_file_is_shorter() {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&content(3 * CHUNK)).unwrap();
        let stopped = Hashing { stop: true.into(), ..Hashing::default() };
        let into = || tempfile::tempfile().unwrap();
        let kind = |result: io::Result<Tree>| result.unwrap_err().kind();
        assert_eq!(kind(Tree::build(&source, 3 * CHUNK, into(), &stopped)), io::ErrorKind::Interrupted);
        let cut = Tree::build(&source, 4 * CHUNK, into(), &Hashing::default());
        assert_eq!(kind(cut), io::ErrorKind::UnexpectedEof);
    }
}
