//! A collector of traces that takes what it is told to take: just enough HTTP for what is posted to it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

/// Requests that nobody has looked at yet; more wait.
const POSTS: usize = 4096;

/// What was posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// The request line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, further headers (each with its line's end), and a body.
    Status(u16, &'static str, Vec<u8>),
    /// These bytes, whatever they are, and the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing, ever.
    Begun(Vec<u8>),
    /// Nothing, ever.
    Nothing,
}

/// A connection, perhaps over TLS.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A running collector; dropping it ends it.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    posts: Receiver<Post>,
    is_over: Arc<AtomicBool>,
}

impl Collector {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::replying(|_| Reply::Status(200, "", Vec::new()))
    }

    /// One that answers the n-th request, counted from 0, so.
    pub fn replying(reply: impl Fn(usize) -> Reply + Send + 'static) -> Self {
        Self::over(|tcp| Ok(Box::new(tcp)), reply)
    }

    /// The same over what `wrap` makes of a connection.
    ///
    /// # Panics
    /// When there is no port.
    pub fn over(
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + 'static,
        reply: impl Fn(usize) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, posts) = sync_channel(POSTS);
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        thread::spawn(move || {
            let (mut count, mut silent) = (0, Vec::new());
            while let Ok((tcp, _)) = listener.accept() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                // Whoever goes away in the middle was told to.
                let Ok(mut stream) = wrap(tcp) else { continue };
                if let Ok(post) = read(&mut stream) {
                    // Whoever is told of the answer finds the post.
                    tell(&sender, post);
                    match reply(count) {
                        Reply::Nothing => silent.push(stream),
                        Reply::Status(status, headers, body) => {
                            let _ = answer(&mut stream, status, headers, &body);
                        }
                        Reply::Bytes(bytes) => _ = say(&mut stream, &bytes),
                        Reply::Begun(bytes) => {
                            let _ = say(&mut stream, &bytes);
                            silent.push(stream);
                        }
                    }
                    count += 1;
                }
            }
        });
        Self { address, posts, is_over }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was posted since this was asked last.
    pub fn posts(&self) -> Vec<Post> {
        self.posts.try_iter().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn tell(sender: &SyncSender<Post>, post: Post) {
    // The test may be over.
    let _ = sender.send(post);
}

fn read(stream: &mut dyn Stream) -> io::Result<Post> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("no length"))?];
    stream.read_exact(&mut body)?;
    Ok(Post { head, body })
}

fn answer(stream: &mut dyn Stream, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} said\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    )?;
    say(stream, body)
}

fn say(stream: &mut dyn Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}
