use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    ClientIdentity, Fingerprint, Topic,
    broker::announce::Unverified,
    wire::generated::{Record, TopicsContent, record::Content},
};

fn small() -> Bounds {
    Bounds { piece_bytes: 70, max_deltas: 4, delta_bytes: 400, max_topics: 50, ..Bounds::default() }
}

fn sign(sequence: u64, content: Content) -> SignedRecord {
    let record = Record { node: vec![7; 32].into(), epoch: 1, sequence, content: Some(content) };
    SignedRecord { body: record.encode_to_vec().into(), signature: vec![0; 64].into() }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn hear(topics: &mut Topics, record: &SignedRecord, bounds: &Bounds) -> Result<Taken, Misfit> {
    let record = Unverified::decode(record.clone()).unwrap();
    let (sequence, signed) = (record.version.sequence, record.signed.clone());
    if !topics.wants(sequence) {
        return Ok(Taken::Known);
    }
    match record.content().unwrap() {
        Content::Topics(piece) => topics.take_piece(sequence, &piece, record.content.clone(), signed, bounds),
        Content::TopicsDelta(delta) => topics.take_delta(sequence, &delta, signed, bounds),
        other => panic!("{other:?}"),
    }
}

fn counts(topics: &Topics) -> Vec<(String, u32)> {
    topics.counts().map(|(topic, count)| (topic.to_string(), count)).collect()
}

fn announced(own: &OwnList) -> Vec<(String, u32)> {
    own.counts().map(|(topic, count)| (topic.to_string(), count)).collect()
}

/// An own list with `n` topics, announced at once.
fn own_with(n: u32, bounds: &Bounds) -> OwnList {
    let mut own = OwnList::new();
    own.advance(Vec::<TopicCount>::new(), bounds, sign);
    own.advance((0..n).map(|i| (topic(&format!("topic-{i}")), 1)), bounds, sign);
    own
}

fn is_delta(record: &SignedRecord) -> bool {
    matches!(Record::decode(record.body.clone()).unwrap().content, Some(Content::TopicsDelta(_)))
}

/// One topic comes; the records that say so.
fn add(own: &mut OwnList, name: &str, bounds: &Bounds) -> Vec<SignedRecord> {
    own.advance([(topic(name), 1)], bounds, sign)
}

#[test]
fn a_change_of_a_long_list_is_short() {
    let bounds = Bounds::default();
    let mut own = own_with(10_000, &bounds);
    let records = add(&mut own, "one more", &bounds);
    assert!(records.len() == 1 && size(&records[0]) < 250, "{} bytes", size(&records[0]));
    let whole: usize = own.since(0).map(size).sum();
    assert!(whole > 100_000);
    assert!(own.since(0).all(|record| size(record) < bounds.piece_bytes + 400));
}

#[test]
fn whoever_is_behind_gets_what_it_lacks() {
    let bounds = Bounds::default();
    let mut own = own_with(100, &bounds);
    let since = own.sequence();
    for n in 0..10 {
        add(&mut own, &format!("more-{n}"), &bounds);
    }
    let given = |have| own.since(have).count();
    assert_eq!((given(since + 10), given(since + 7), given(since), given(since - 1)), (0, 3, 10, 11));
    assert_eq!((given(0), given(since + 11)), (11, 11), "what nobody can go on from");
}

#[test]
fn changes_are_followed_by_a_new_list_before_they_are_longer_than_it() {
    let bounds = small();
    let mut own = own_with(30, &bounds);
    let (mut lists, mut most) = (0, 0);
    for n in 0..100 {
        let records = own.advance([(topic("changing"), n % 2)], &bounds, sign);
        lists += usize::from(!is_delta(&records[0]));
        most = most.max(own.since(0).count());
    }
    assert!((20..=34).contains(&lists), "{lists}: after four changes, or 400 bytes");
    assert!(most <= 30 + 4);
}

#[test]
fn pieces_may_come_in_any_order_and_one_that_lacks_keeps_the_old_list() {
    let bounds = small();
    let mut own = own_with(20, &bounds);
    let mut theirs = Topics::default();
    let records: Vec<_> = own.since(0).cloned().collect();
    assert!(records.len() > 2);
    for record in records.iter().rev().take(records.len() - 1) {
        assert!(matches!(hear(&mut theirs, record, &bounds), Ok(Taken::Kept)));
    }
    assert_eq!((theirs.present(), counts(&theirs)), (0, vec![]));
    assert!(theirs.unfinished() > 0);
    assert!(matches!(hear(&mut theirs, &records[1], &bounds), Ok(Taken::Known)), "it has come");
    assert!(matches!(hear(&mut theirs, &records[0], &bounds), Ok(Taken::Replaced(_))));
    assert_eq!((counts(&theirs), theirs.unfinished()), (announced(&own), 0));
    let delta = add(&mut own, "x", &bounds).remove(0);
    assert!(
        matches!(hear(&mut theirs, &delta, &bounds), Ok(Taken::Changed(c)) if c.counts == [(topic("x"), 1)])
    );
}

#[test]
fn a_gap_is_noticed() {
    let bounds = Bounds::default();
    let mut own = own_with(10, &bounds);
    let mut theirs = Topics::default();
    own.since(0).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    let lost = add(&mut own, "x", &bounds).remove(0);
    let next = add(&mut own, "y", &bounds).remove(0);
    assert!(matches!(hear(&mut theirs, &next, &bounds), Ok(Taken::Gap)));
    assert!(matches!(hear(&mut theirs, &lost, &bounds), Ok(Taken::Changed(_))));
    assert!(matches!(hear(&mut theirs, &next, &bounds), Ok(Taken::Changed(_))));
    assert_eq!(counts(&theirs), announced(&own));
}

#[test]
fn after_the_list_was_forgotten_only_what_is_as_new_comes_back() {
    let bounds = Bounds::default();
    let mut own = own_with(10, &bounds);
    let old: Vec<_> = own.since(0).cloned().collect();
    add(&mut own, "x", &bounds);
    let mut theirs = Topics::default();
    own.since(0).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    theirs.bury();
    assert_eq!(counts(&theirs), []);
    for record in &old {
        assert!(matches!(hear(&mut theirs, record, &bounds), Ok(Taken::Kept)), "it waits for the change");
    }
    assert_eq!((theirs.present(), counts(&theirs)), (0, vec![]));
    own.since(theirs.have()).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    assert_eq!((counts(&theirs), theirs.unfinished()), (announced(&own), 0));
}

/// Two lists of one sequence: what one who signs both can do.
#[test]
fn a_change_that_does_not_fit_leads_to_the_whole_list() {
    let bounds = Bounds::default();
    let (mut own, mut twin) = (own_with(10, &bounds), own_with(10, &bounds));
    let mut theirs = Topics::default();
    twin.since(0).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    let lie = add(&mut twin, "told to some", &bounds);
    hear(&mut theirs, &lie[0], &bounds).unwrap();
    add(&mut own, "told to others", &bounds);
    let next = add(&mut own, "x", &bounds).remove(0);
    let before = counts(&theirs);
    assert_eq!(hear(&mut theirs, &next, &bounds).unwrap_err(), Misfit::Hash);
    assert_eq!((counts(&theirs), theirs.have()), (before, 0), "what was held holds until there is better");
    own.since(theirs.have()).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    assert_eq!((counts(&theirs), theirs.unfinished()), (announced(&own), 0));
}

#[test]
fn what_its_origin_made_too_long_is_not_kept() {
    let bounds = Bounds { max_list_bytes: 2_000, ..small() };
    let mut theirs = Topics::default();
    let hash = |n: u8| vec![n; 32].into();
    for sequence in 1..200 {
        let topics = vec![TopicCount { topic: "t".repeat(100), subscribers: 1, holder: None }];
        let piece = sequence as u32 % 37;
        let content = TopicsContent { topics, piece, pieces: 40, hash: hash(1) };
        let _ = hear(&mut theirs, &sign(3 + sequence / 37, Content::Topics(content)), &bounds);
        assert!(theirs.unfinished() <= 2_000);
    }
    let endless = TopicsContent { piece: 0, pieces: MAX_PIECES + 1, hash: hash(1), ..Default::default() };
    let endless = sign(300, Content::Topics(endless));
    assert_eq!(hear(&mut theirs, &endless, &bounds).unwrap_err(), Misfit::Bytes);
    let wrong = TopicsContent { piece: 0, pieces: 1, hash: hash(9), ..Default::default() };
    let wrong = sign(301, Content::Topics(wrong));
    assert_eq!(hear(&mut theirs, &wrong, &bounds).unwrap_err(), Misfit::Hash);
    assert_eq!((theirs.present(), theirs.unfinished()), (0, 0));
}

#[test]
fn endless_changes_are_not_kept() {
    let (bounds, theirs_bounds) = (Bounds::default(), small());
    let mut own = own_with(3, &theirs_bounds);
    let mut theirs = Topics::default();
    own.since(0).for_each(|record| _ = hear(&mut theirs, record, &theirs_bounds));
    let heard = (0..64).map(|n| {
        let record = own.advance([(topic("topic-1"), n + 2)], &bounds, sign).remove(0);
        hear(&mut theirs, &record, &theirs_bounds).is_ok_and(|taken| matches!(taken, Taken::Changed(_)))
    });
    let kept = heard.filter(|kept| *kept).count();
    assert!(kept <= 8, "{kept}: twice as many as a node of those bounds makes");
}

#[test]
fn a_list_in_too_small_pieces_still_has_few() {
    let bounds = Bounds { piece_bytes: 1, ..Bounds::default() };
    let own = own_with(5_000, &bounds);
    assert!(own.since(0).count() <= MAX_PIECES as usize);
    let mut theirs = Topics::default();
    own.since(0).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    assert_eq!(counts(&theirs), announced(&own));
}

#[test]
fn names_that_are_no_topics_are_left_out_but_belong_to_the_list() {
    let bounds = Bounds::default();
    let strange = [("a\tb", 2), ("fine", 1)];
    let entries = |list: &[(&str, u32)]| {
        list.iter()
            .map(|(topic, n)| TopicCount { topic: (*topic).into(), subscribers: *n, holder: None })
            .collect()
    };
    let hash = |list: &[(&str, u32)]| ListHash::of(list.iter().copied()).to_bytes().to_vec().into();
    let content = TopicsContent { topics: entries(&strange), piece: 0, pieces: 1, hash: hash(&strange) };
    let mut theirs = Topics::default();
    hear(&mut theirs, &sign(1, Content::Topics(content)), &bounds).unwrap();
    assert_eq!((counts(&theirs), theirs.strange()), (vec![("fine".into(), 1)], 1));
    let delta = TopicsDelta { from: 1, changes: entries(&[("a\tb", 0)]), hash: hash(&[("fine", 1)]) };
    hear(&mut theirs, &sign(2, Content::TopicsDelta(delta)), &bounds).unwrap();
    assert_eq!((theirs.present(), theirs.strange()), (2, 0));
}

/// One session holds a reserved name, or does no longer.
fn holder(name: &str, session: u64, of: Option<u8>) -> HolderChange {
    let client = |n: u8| ClientIdentity { fingerprint: Fingerprint::new([n; 32]), name: "c".into() };
    (topic(name), SessionId(session), of.map(client).map(Arc::new))
}

#[test]
fn reserved_names_travel_session_by_session() {
    let bounds = Bounds::default();
    let (mut own, mut theirs) = (own_with(3, &bounds), Topics::default());
    own.since(0).for_each(|record| _ = hear(&mut theirs, record, &bounds));
    let private = "#!$TopicNeedVerify_a";
    let mut tell = |change: HolderChange| {
        let record = own.advance([change], &bounds, sign).remove(0);
        let Ok(Taken::Changed(changes)) = hear(&mut theirs, &record, &bounds) else { panic!("it fits") };
        (changes.counts.len(), changes.holders)
    };
    for change in [
        holder(private, 7, Some(1)),
        holder(private, 9, Some(1)),
        holder(private, 7, Some(2)),
        holder(private, 9, None),
    ] {
        assert_eq!(tell(change.clone()), (0, vec![change]));
    }
    // A whole list says the same, and the difference to it.
    let mut late = Topics::default();
    for record in own.since(0) {
        let _ = hear(&mut late, record, &bounds);
    }
    let mut entries = Entries::default();
    entries.set(&holder(private, 7, Some(2)).into(), &mut Changes::default());
    let before = Entries::default();
    assert_eq!(before.differences(&entries).holders, [holder(private, 7, Some(2))]);
    assert_eq!(entries.differences(&before).holders, [holder(private, 7, None)]);
    let withdrawn = own.withdrawal();
    assert!(withdrawn.len() == 4 && withdrawn.iter().all(|entry| entry.subscribers == 0));
    let records = own.advance(withdrawn, &bounds, sign);
    records.iter().for_each(|record| _ = hear(&mut late, record, &bounds));
    assert_eq!((late.present(), late.strange(), late.unfinished()), (own.sequence(), 0, 0));
}

#[test]
fn entries_that_do_not_suit_their_names_mean_nothing() {
    let held = |name: &str| TopicCount::from(holder("#!$TopicNeedVerify_a", 7, Some(1))).named(name);
    let nameless = TopicCount { holder: Some(Default::default()), ..held("#!$TopicNeedVerify_a") };
    let long = {
        let (private, session, client) = holder("#!$TopicNeedVerify_a", 7, Some(1));
        let mut entry = TopicCount::from((private, session, client));
        let client = entry.holder.as_mut().and_then(|holder| holder.client.as_mut()).unwrap();
        client.name = "x".repeat(MAX_CLIENT_NAME + 1);
        entry
    };
    let counted = TopicCount { holder: None, ..held("#!$TopicNeedVerify_a") };
    let many = TopicCount { subscribers: 2, ..held("#!$TopicNeedVerify_a") };
    for strange in [held("ordinary"), nameless, long, counted, many] {
        let (mut entries, mut changes) = (Entries::default(), Changes::default());
        entries.set(&strange, &mut changes);
        assert_eq!((changes, entries.len(), entries.strange()), (Changes::default(), 1, 1));
        assert_eq!(ListHash::of([&strange]), ListHash::of(entries.iter()));
        entries.set(&TopicCount { subscribers: 0, ..strange }, &mut Changes::default());
        assert_eq!(entries.len(), 0);
    }
}

impl TopicCount {
    fn named(self, name: &str) -> Self {
        Self { topic: name.into(), ..self }
    }
}

proptest! {
    /// However records get lost on the way: what is pulled makes the lists equal.
    #[test]
    fn others_follow_whatever_is_lost(
        rounds in prop::collection::vec((prop::collection::btree_map(0_u8..30, 0_u32..3, 0..12), 0_u32..4), 1..40),
        piece_bytes in prop::sample::select(vec![1_usize, 40, 200, 100_000]),
        max_deltas in 1_usize..8,
    ) {
        let bounds = Bounds { piece_bytes, max_deltas, delta_bytes: 300, ..Bounds::default() };
        let (mut own, mut theirs) = (OwnList::new(), Topics::default());
        own.advance(Vec::<TopicCount>::new(), &bounds, sign);
        for (changes, luck) in rounds {
            let changes = changes.into_iter().map(|(n, count)| (topic(&format!("t{n}")), count));
            let records = own.advance(changes, &bounds, sign);
            for record in records.iter().skip(usize::from(luck == 1)).take(if luck == 2 { 0 } else { 99 }) {
                hear(&mut theirs, record, &bounds).unwrap();
            }
            if luck == 3 {
                let given: Vec<_> = own.since(theirs.have()).cloned().collect();
                for record in given {
                    hear(&mut theirs, &record, &bounds).unwrap();
                }
                prop_assert_eq!(theirs.present(), own.sequence());
            }
            if theirs.present() == own.sequence() {
                prop_assert_eq!(counts(&theirs), announced(&own));
                prop_assert_eq!(theirs.unfinished(), 0);
            }
        }
    }
}
