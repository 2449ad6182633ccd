//! `amop send-file` and `amop receive-file`, against a devnet of real processes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use amop_testkit::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CHUNK, content};
use crate::{
    cli::{amop, json_of, output},
    process::{AMOP, Devnet},
};

/// `amop receive-file` in the background, with a directory of its own; killed when its test ends.
struct Receiver {
    child: Option<Child>,
    dir: TempDir,
}

impl Receiver {
    /// It is ready to receive.
    fn start(devnet: &Devnet, node: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let output = |name| File::create(dir.path().join(name)).expect("a file");
        let mut command = amop(devnet, "receive-file", node, arguments);
        command.arg("--into").arg(dir.path().join("inbox")).stdin(Stdio::null());
        let child = command.stdout(output("out")).stderr(output("err")).spawn().expect("amop starts");
        let receiver = Self { child: Some(child), dir };
        // As JSON or as text.
        wait::block_until("a receiver", || {
            !receiver.said("out").is_empty() || !receiver.said("err").is_empty()
        });
        receiver
    }

    /// Waits for its end; gives its exit code and what it printed.
    fn end(&mut self) -> (i32, String, String) {
        let mut child = self.child.take().expect("it runs");
        wait::block_until("the receiver's end", || child.try_wait().expect("a child").is_some());
        let status = child.wait().expect("ended");
        (status.code().expect("no signal"), self.said("out"), self.said("err"))
    }

    fn inbox(&self) -> PathBuf {
        self.dir.path().join("inbox")
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).expect("text")
    }

    /// Waits until it has said so many of these.
    fn has_said(&self, count: usize, event: &str) {
        let some = format!("\"event\":\"{event}\"");
        wait::block_until(event, || self.said("out").matches(&some).count() >= count);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It fails only if the receiver has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `amop send-file`, keeping its state beside the files.
fn send_file(devnet: &Devnet, files: &Path, arguments: &[&str]) -> Command {
    let mut command = amop(devnet, "send-file", "node-1", arguments);
    command.current_dir(files).env("XDG_STATE_HOME", files.join("state"));
    command
}

fn send(devnet: &Devnet, files: &Path, arguments: &[&str]) -> (i32, String, String) {
    output(send_file(devnet, files, arguments))
}

fn events(said: &str) -> Vec<Value> {
    said.lines().map(|line| json_of(line.as_bytes())).collect()
}

/// The names of events, with repeated progress once.
fn order(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    names.dedup();
    names
}

fn hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

#[test]
fn files_arrive_at_the_terminal_and_scripts_can_follow() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let files = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(files.path().join("reports/六月")).expect("made");
    let (large, small) = (content(3 * CHUNK + 7, 1), b"balance 0".as_slice());
    for (path, content) in [
        ("large.bin", &*large),
        ("reports/对账单.pdf", small),
        ("reports/六月/日报.pdf", b""),
        ("reports/no.txt", b"no"),
    ] {
        fs::write(files.path().join(path), content).expect("written");
    }
    let mut receiver = Receiver::start(&devnet, "node-2", &["statements", "--json", "--count", "3"]);
    let inbox = receiver.inbox();
    let sending =
        ["--json", "statements", "large.bin", "reports/**/*.pdf", "--media-type", "application/pdf"];
    let (code, said, complaint) = send(&devnet, files.path(), &sending);
    assert_eq!((code, complaint.as_str()), (0, ""), "{said}");

    let sent = events(&said);
    let each = ["offered", "accepted", "progress", "sent"];
    assert_eq!(order(&sent), [each, each, each].concat(), "{said}");
    let transfer = sent[0]["transfer"].as_str().expect("a transfer");
    assert_eq!(transfer.len(), 32);
    let (size, root) = (large.len(), hash(&large));
    assert_eq!(
        sent[0],
        json!({"event": "offered", "transfer": transfer, "name": "large.bin", "size": size, "hash": root})
    );
    let last = &sent[sent.iter().position(|event| event["event"] == "sent").expect("sent")];
    let receiver_of = |event: &Value| event["receiver"].clone();
    assert_eq!(receiver_of(last)["fingerprint"].as_str().map(str::len), Some(64), "{last}");
    assert!(
        receiver_of(last)["institution"].is_string() && receiver_of(last)["client"].is_string(),
        "{last}"
    );
    assert_eq!(
        (&last["transfer"], &last["size"], &last["hash"], &last["resent"]),
        (&json!(transfer), &json!(size), &json!(root), &json!(0))
    );
    assert!(last["seconds"].is_f64());
    let progress = sent.iter().rfind(|event| event["event"] == "progress").expect("progress");
    assert_eq!((&progress["bytes"], &progress["size"]), (&json!(small.len()), &json!(small.len())));

    let (code, said, complaint) = receiver.end();
    assert_eq!((code, complaint.as_str()), (0, ""), "it ends after three files");
    let received = events(&said);
    assert_eq!(
        received[0],
        json!({"event": "ready", "topics": ["statements"], "into": inbox.display().to_string()})
    );
    let of = |event: &'static str| received.iter().filter(move |said| said["event"] == event);
    let offered: Vec<_> = of("offered").map(|event| &event["name"]).collect();
    assert_eq!(json!(offered), json!(["large.bin", "日报.pdf", "对账单.pdf"]));
    let first = of("offered").next().expect("an offer");
    assert_eq!((&first["transfer"], &first["media_type"]), (&json!(transfer), &json!("application/pdf")));
    assert_eq!(first["sender"]["node"].as_str().map(str::len), Some(64));
    for (event, content) in of("received").zip([&*large, b"", small]) {
        assert_eq!(
            (&event["size"], &event["hash"]),
            (&json!(content.len()), &json!(hash(content))),
            "{event}"
        );
        let path = event["path"].as_str().expect("a path");
        assert_eq!(Path::new(path), inbox.join(event["name"].as_str().expect("a name")));
        assert!(fs::read(path).expect("received") == content, "{path}");
    }
    assert_eq!(of("received").count(), 3);
}

#[test]
fn people_read_lines_without_codes_where_there_is_no_terminal() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let files = tempfile::tempdir().expect("a directory");
    fs::write(files.path().join("对账单.pdf"), b"balance 0").expect("written");
    let mut receiver = Receiver::start(&devnet, "node-2", &["statements", "--count", "1"]);
    let ready = receiver.said("err");
    assert!(
        ready.contains("files sent to statements at node-2 go into") && ready.contains("Ctrl-C ends"),
        "{ready}"
    );
    let (code, said, complaint) = send(&devnet, files.path(), &["statements", "对账单.pdf"]);
    assert!(
        code == 0 && said.starts_with("sent 对账单.pdf to ") && said.contains("9 B in "),
        "{said}{complaint}"
    );
    assert_eq!(complaint, "", "no bars");
    let (code, received, complaint) = receiver.end();
    assert!(
        code == 0 && received.starts_with("received ") && received.contains("对账单.pdf from "),
        "{received}"
    );
    for text in [said, received, complaint] {
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }
}

/// As with `amop send-file … | head -1`.
#[test]
fn files_are_sent_although_nobody_reads_what_is_said() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let files = tempfile::tempdir().expect("a directory");
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| fs::write(files.path().join(name), name).expect("written"));
    let mut receiver = Receiver::start(&devnet, "node-2", &["t", "--json", "--count", "6"]);
    for more in [&[][..], &["--json"]] {
        let mut command = send_file(&devnet, files.path(), &["t", "a", "b", "c"]);
        let mut child = command.args(more).stdout(Stdio::piped()).spawn().expect("amop starts");
        drop(child.stdout.take());
        wait::block_until("the sender's end", || child.try_wait().expect("a child").is_some());
        assert_eq!(child.wait().expect("ended").code(), Some(0));
    }
    assert_eq!(receiver.end().0, 0);
    for name in names {
        assert_eq!(fs::read_to_string(receiver.inbox().join(format!("{name} (1)"))).expect("received"), name);
    }
}

#[test]
fn what_is_not_sent_says_why() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let files = tempfile::tempdir().expect("a directory");
    fs::create_dir(files.path().join("folder")).expect("made");
    for (name, size) in [("small", 10), ("large", 1000)] {
        fs::write(files.path().join(name), content(size, 1)).expect("written");
    }
    let refused = |arguments: &[&str], expected: i32, words: &str| {
        let (code, said, complaint) = send(&devnet, files.path(), arguments);
        assert!(
            code == expected && complaint.contains(words) && said.is_empty(),
            "{code}: {said}{complaint}"
        );
    };
    refused(&["t", "small"], 100, "nobody is subscribed");
    refused(&["t", "small", "--multicast"], 100, "nobody is subscribed");
    refused(&["t", "small", "--one-frame"], 100, "nobody is subscribed");
    refused(&["t", "folder"], 1, "folder is a directory; to send the files in it write 'folder/*'");
    refused(&["t", "none"], 1, "none cannot be read");
    refused(&["t", "small", "*.doc"], 1, "no file matches");
    refused(&["t", "/dev/zero"], 1, "no regular file");
    refused(&["t", "small", "--media-type", "pdf"], 1, "application/pdf");
    refused(&["", "small"], 1, "topic");
    refused(&["t"], 2, "FILE");
    refused(&["t", "small", "--one-frame", "--media-type", "a/b"], 2, "--media-type");
    refused(&["t", "small", "--patience", "soon"], 2, "500ms or 5s");

    let mut receiver =
        Receiver::start(&devnet, "node-2", &["t", "--json", "--count", "1", "--max-size", "999"]);
    refused(&["t", "large"], 101, "it is larger than this receiver takes");
    let (code, said, _) = send(&devnet, files.path(), &["--json", "t", "large", "none", "small"]);
    let said = events(&said);
    assert_eq!(
        order(&said),
        ["offered", "declined", "progress", "failed", "offered", "accepted", "progress", "sent"],
        "{said:?}"
    );
    assert_eq!(code, 1, "that of the last that failed");
    assert_eq!(said[1]["why"], "it is larger than this receiver takes");
    let failed: Vec<_> = said.iter().filter(|event| event["event"] == "failed").collect();
    assert_eq!((&failed[0]["file"], &failed[0]["code"]), (&json!("large"), &json!(101)));
    assert_eq!((&failed[1]["file"], &failed[1]["code"]), (&json!("none"), &json!(1)));
    let (code, said, _) = receiver.end();
    let received = events(&said);
    assert_eq!((code, received.last().map(|last| &last["name"])), (0, Some(&json!("small"))), "{said}");
    assert!(!receiver.inbox().join("large").exists());
}

#[test]
fn without_a_node_or_a_directory_there_are_no_files() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "1"]);
    let files = tempfile::tempdir().expect("a directory");
    fs::write(files.path().join("a"), "a").expect("written");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let certificates = devnet.path(devnet.announcement()["clients"][0]["dir"].as_str().expect("text"));
    let elsewhere = |more: &[&str]| {
        let mut command = Command::new(AMOP);
        command.current_dir(files.path()).args(["send-file", "--node", &free.to_string(), "--certs"]);
        output({
            command.arg(&certificates).args(more);
            command
        })
    };
    let (code, _, complaint) = elsewhere(&["t", "a"]);
    assert!(code == 99 && complaint.contains(&free.to_string()), "{complaint}");
    let (code, said, _) = elsewhere(&["t", "a", "--json"]);
    let failed = json_of(said.as_bytes());
    assert_eq!((code, &failed["event"], &failed["code"]), (99, &json!("failed"), &json!(99)), "{said}");

    let receive = |into: &str, more: &[&str]| {
        let mut command = amop(&devnet, "receive-file", "node-1", more);
        command.current_dir(files.path()).args(["t", "--into", into]);
        output(command)
    };
    let (code, _, complaint) = receive("a", &[]);
    assert!(code == 1 && complaint.contains("a cannot be used"), "{complaint}");
    assert!(complaint.contains("not a directory"), "{complaint}");
    let (code, _, complaint) = send(&devnet, files.path(), &["t", "a", "--state", "a"]);
    assert!(code == 1 && complaint.contains("the state in a cannot be used"), "{complaint}");
    assert!(complaint.contains("not a directory"), "{complaint}");
    assert_eq!(receive("b", &["--count", "0"]).0, 2);
    let receiver = Receiver::start(&devnet, "node-1", &["t", "--json"]);
    let (code, _, complaint) = receive(receiver.inbox().to_str().expect("text"), &[]);
    assert!(code == 1 && complaint.contains("is in use by another receiver"), "{complaint}");
}

#[test]
fn all_receivers_get_a_multicast_streamed_or_in_one_frame() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let files = tempfile::tempdir().expect("a directory");
    let bytes = content(CHUNK + 1, 1);
    fs::write(files.path().join("公告.pdf"), &bytes).expect("written");
    let mut receivers =
        ["node-1", "node-2"].map(|node| Receiver::start(&devnet, node, &["news", "--json", "--count", "3"]));
    let (code, said, complaint) = send(&devnet, files.path(), &["news", "公告.pdf", "--multicast", "--json"]);
    assert_eq!(code, 0, "{said}{complaint}");
    let sent = events(&said);
    let of = |event: &'static str| sent.iter().filter(move |said| said["event"] == event);
    assert_eq!((of("accepted").count(), of("sent").count()), (2, 2), "{said}");
    receivers.iter().for_each(|receiver| receiver.has_said(1, "received"));

    let (code, said, complaint) =
        send(&devnet, files.path(), &["news", "公告.pdf", "--multicast", "--one-frame", "--json"]);
    assert_eq!(code, 0, "{complaint}");
    let whole = json_of(said.as_bytes());
    assert_eq!((&whole["event"], &whole["name"]), (&json!("sent_whole"), &json!("公告.pdf")));
    assert_eq!(whole["size"], bytes.len());
    receivers.iter().for_each(|receiver| receiver.has_said(2, "received"));
    for number in [1, 2] {
        let node = format!("node-{number}");
        let id = devnet.announcement()["nodes"][number - 1]["node_id"].as_str().expect("text").to_owned();
        let (code, said, complaint) =
            send(&devnet, files.path(), &["news", "公告.pdf", "--one-frame", "--to-node", &id]);
        assert!(code == 0 && said.starts_with("sent 公告.pdf in one frame: "), "{node}: {said}{complaint}");
    }
    for receiver in &mut receivers {
        let (code, said, _) = receiver.end();
        assert_eq!(code, 0);
        let received: Vec<_> = events(&said).into_iter().filter(|said| said["event"] == "received").collect();
        assert_eq!((&received[0]["hash"], &received[1]["hash"]), (&json!(hash(&bytes)), &json!(null)));
        for name in ["公告.pdf", "公告 (1).pdf", "公告 (2).pdf"] {
            assert!(fs::read(receiver.inbox().join(name)).expect("received") == bytes, "{name}");
        }
    }
}

#[test]
fn files_on_a_private_topic_are_for_those_with_a_key() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let files = tempfile::tempdir().expect("a directory");
    let bytes = content(2 * CHUNK, 1);
    fs::write(files.path().join("价格.csv"), &bytes).expect("written");
    for name in ["till", "other"] {
        let mut command = Command::new(AMOP);
        command.current_dir(files.path()).args(["keys", "generate", "--name", name]);
        assert_eq!(output(command).0, 0);
    }
    let key = files.path().join("till.key").display().to_string();
    let mut receiver =
        Receiver::start(&devnet, "node-2", &["prices", "--json", "--count", "1", "--private-key", &key]);
    let (code, _, complaint) = send(
        &devnet,
        files.path(),
        &["prices", "价格.csv", "--public-key", "other.pub", "--verify-within", "300ms"],
    );
    assert!(code == 100 && complaint.contains("no subscriber proved"), "{complaint}");
    let (code, _, complaint) = send(
        &devnet,
        files.path(),
        &["prices", "价格.csv", "--public-key", "till.pub", "--verify-within", "30s"],
    );
    assert_eq!((code, complaint.as_str()), (0, ""));
    let (code, said, _) = receiver.end();
    assert_eq!(
        (code, events(&said).last().map(|last| &last["hash"])),
        (0, Some(&json!(hash(&bytes)))),
        "{said}"
    );
    assert!(fs::read(receiver.inbox().join("价格.csv")).expect("received") == bytes);
}
