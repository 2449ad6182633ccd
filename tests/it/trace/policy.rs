//! Who is told what.

use super::*;

/// The nodes that have said anything.
fn nodes(message: &Message) -> Vec<&str> {
    let mut names: Vec<&str> = message.steps.iter().map(|step| &*step.node.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn text(message: &Message) -> String {
    message.steps.iter().map(|step| format!("{}\n", step.text)).collect()
}

#[tokio::test]
async fn nodes_tell_others_as_much_as_their_policy_says() {
    use amop::config::Show;
    let mesh = Mesh::new(4, Topology::Line, |index, config| {
        config.trace.show = [Show::Hops, Show::Nothing, Show::Hops, Show::All][index];
    })
    .await;
    let _hidden = Served::answer(mesh.client(2).await, "hops", "ok").await;
    let _shown = Served::answer(mesh.client(3).await, "all", "ok").await;
    let mut till = publisher(&mesh).await;
    for (topic, expected, names) in
        [("hops", &["node-0", "node-2"][..], false), ("all", &["node-0", "node-2", "node-3"], true)]
    {
        wait::until("the topic", async || mesh.knows(0, topic).await).await;
        let (seq, code) = request(&mut till, topic, b"x".to_vec()).await;
        assert_eq!(code, 0);
        let found = trace(&mesh, 0, &seq).await;
        let message = only(&found);
        assert_eq!(nodes(message), expected, "{message:#?}");
        assert_eq!(found.silent, [], "who says nothing answers all the same");
        assert_eq!(text(message).contains("client-"), names, "{message:#?}");
    }
}

#[tokio::test]
async fn other_institutions_learn_nothing_of_a_message() {
    let mesh = five(|_, config| config.trace.show = amop::config::Show::All).await;
    let _echo = Served::answer(mesh.client(4).await, "t", "ok").await;
    let mut till = publisher(&mesh).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let (seq, _) = request(&mut till, "t", b"x".to_vec()).await;
    // Relays, who know neither seq nor topic, and a node that never had it.
    for node in [1, 2, 3] {
        let found = trace(&mesh, node, &seq).await;
        let unknown = trace(&mesh, node, &Seq::from_u128(0xdead)).await;
        assert_eq!(found.messages, [], "at node {node}");
        assert_eq!(Trace { id: String::new(), ..found }, Trace { id: String::new(), ..unknown });
    }
    // The destination has its own part of it, and nobody else's.
    let found = trace(&mesh, 4, &seq).await;
    let message = only(&found);
    assert_eq!(nodes(message), ["node-4"], "{message:#?}");
    assert_eq!((message.outcome.as_ref(), found.asked), (None, 0));
    assert!(!found.notes.is_empty(), "it says why");
}
