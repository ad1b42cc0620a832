use std::convert::Infallible;

use futures_util::StreamExt;
use futures_util::stream;

use tokio_util::task::TaskTracker;

use super::*;

const KIB: usize = 1024;

fn bounds(limits: Limits) -> Bounds {
    Bounds::new(limits)
}

fn limits() -> Limits {
    Limits {
        body: 64 * KIB,
        in_flight: 512 * KIB,
        per_user: 128 * KIB,
        requests_per_user: 40,
        patience: Duration::from_secs(30),
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn length(bytes: usize) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_LENGTH, bytes.into())])
}

/// Says one byte, and then nothing.
fn hanging() -> Body {
    let byte = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
    Body::from_stream(byte.chain(stream::pending()))
}

async fn refusal(
    bounds: &Bounds,
    of: &UserId,
    body: usize,
) -> (Option<(u16, &'static str)>, Option<(Bytes, Reserved)>) {
    match bounds.read(Some(of), &length(body), Body::from(vec![b'x'; body])).await {
        Ok(read) => (None, Some(read)),
        Err(error) => (Some((error.status.as_u16(), error.code)), None),
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read() {
    let bounds = bounds(limits());
    let refused = bounds.read(None, &length(100_000_000), Body::from("unread")).await.unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (413, "body_too_large"));
    let lying = bounds.read(None, &HeaderMap::new(), Body::from(vec![b'x'; 64 * KIB + 1])).await.unwrap_err();
    assert_eq!(lying.code, "body_too_large");
}

#[tokio::test]
async fn bytes_in_flight_are_given_back() {
    let bounds = bounds(Limits { in_flight: 4096, per_user: 4096, ..limits() });
    let body = || Body::from(vec![b'x'; 3000]);
    let (bytes, first) = bounds.read(None, &length(3000), body()).await.unwrap();
    assert_eq!(bytes.len(), 3000);
    assert_eq!(bounds.read(None, &length(3000), body()).await.unwrap_err().code, "too_many_bytes");
    assert_eq!(bounds.read(None, &HeaderMap::new(), body()).await.unwrap_err().code, "too_many_bytes");
    drop(first);
    assert!(bounds.read(None, &HeaderMap::new(), body()).await.is_ok());
    assert_eq!(lock(&bounds.books).bytes, 0);
}

#[tokio::test]
async fn what_is_announced_takes_nothing() {
    let bounds = Arc::new(bounds(limits()));
    let ann = user("ann");
    let _seats: Vec<Seat> = (0..20).map(|_| bounds.seat(&ann).unwrap()).collect();
    let announced: Vec<_> = (0..20)
        .map(|_| {
            let (bounds, ann) = (Arc::clone(&bounds), ann.clone());
            TaskTracker::new()
                .spawn(async move { bounds.read(Some(&ann), &length(64 * KIB), hanging()).await.err() })
        })
        .collect();
    while lock(&bounds.books).bytes < 20 {
        tokio::task::yield_now().await;
    }
    let (refused, _read) = refusal(&bounds, &user("bob"), 64 * KIB).await;
    assert_eq!((refused, lock(&bounds.books).bytes), (None, 20 + 64 * KIB));
    announced.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_takes_too_much_is_refused_and_nobody_else() {
    let bounds = bounds(limits());
    let (ann, bob) = (user("ann"), user("bob"));
    let _seats: Vec<Seat> = (0..4).map(|_| bounds.seat(&ann).unwrap()).collect();
    let (_, first) = refusal(&bounds, &ann, 64 * KIB).await;
    let (_, second) = refusal(&bounds, &ann, 60 * KIB).await;
    assert!(first.is_some() && second.is_some());
    assert_eq!(refusal(&bounds, &ann, 64 * KIB).await.0, Some((429, "too_many_bytes")));
    let (refused, of_bob) = refusal(&bounds, &bob, 64 * KIB).await;
    assert_eq!(refused, None);
    drop((first, of_bob));
    assert_eq!(refusal(&bounds, &ann, 64 * KIB).await.0, None);
    drop((second, _seats));
    assert!(lock(&bounds.books).users.is_empty());
}

/// The rest of what there is stays for those who take little.
#[tokio::test]
async fn many_with_large_bodies_leave_room_for_small_ones() {
    let bounds = bounds(limits());
    let mut kept = Vec::new();
    for number in 0..16 {
        let (refused, read) = refusal(&bounds, &user(&format!("user-{number}")), 63 * KIB).await;
        assert_eq!(refused.is_some(), number >= 7, "{number}");
        kept.extend(read);
    }
    for number in 0..8 {
        let (refused, read) = refusal(&bounds, &user(&format!("small-{number}")), 4 * KIB).await;
        assert_eq!(refused, None);
        kept.extend(read);
    }
}

#[tokio::test]
async fn a_body_has_a_total_time() {
    let slow = Pace { grace: Duration::from_millis(60), rate: 10_000 };
    let bounds = Bounds { pace: slow, ..bounds(limits()) };
    // A byte every few milliseconds is never silent, and never ends.
    let trickle = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
    });
    let refused = bounds.read(None, &HeaderMap::new(), Body::from_stream(trickle)).await.unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (408, "body_timeout"));
    let hanging = bounds.read(None, &length(9), hanging()).await.unwrap_err();
    assert_eq!(hanging.code, "body_timeout");
    assert_eq!(slow.allows(20_000), Duration::from_millis(2060));
}

#[tokio::test]
async fn what_becomes_of_a_body_is_counted_in() {
    let bounds = bounds(limits());
    let (_, read) = refusal(&bounds, &user("ann"), 10 * KIB).await;
    let body = read.unwrap().1;
    let outline = |memory| Outline { model: None, memory };
    let room = bounds.room(&body, &outline(30 * KIB)).unwrap();
    assert_eq!(lock(&bounds.books).bytes, 50 * KIB);
    drop(room);
    assert_eq!(lock(&bounds.books).bytes, 10 * KIB);
    let refused = bounds.room(&body, &outline(128 * KIB + 1)).unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (400, "body_too_complex"));
    assert!(refused.message.contains("131072"), "{}", refused.message);
}

#[test]
fn seats_are_given_back() {
    let bounds = bounds(Limits { requests_per_user: 2, ..limits() });
    let (ann, bob) = (user("ann"), user("bob"));
    let first = bounds.seat(&ann).unwrap();
    let _second = bounds.seat(&ann).unwrap();
    assert_eq!(bounds.seat(&ann).unwrap_err().code, "too_many_requests");
    assert!(bounds.seat(&bob).is_ok());
    drop(first);
    assert!(bounds.seat(&ann).is_ok());
}

#[tokio::test]
async fn bodies_come_whole_however_large_and_whatever_they_say() {
    let bounds = bounds(Limits { body: 2 * LARGE, in_flight: 16 * LARGE, per_user: 16 * LARGE, ..limits() });
    for size in [0, 1, LARGE, LARGE + 1, 2 * LARGE] {
        let sent: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for headers in [HeaderMap::new(), length(size)] {
            let pieces: Vec<_> =
                sent.chunks(1000).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
            let (read, _) =
                bounds.read(None, &headers, Body::from_stream(stream::iter(pieces))).await.unwrap();
            assert!(read == sent, "{size}");
        }
    }
}
