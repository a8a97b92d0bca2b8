//! A router whose window closes while it keeps talking: only what it acknowledges counts (RFC 9687).

use crate::line::{Heard, Line, PATIENCE};
use crate::octets::{REFRESHES, Told, Who, keepalive, message};
use crate::process::unsent;
use crate::table::EXTERNAL_ASN;
use crate::ward::{Bounds, Peak, Ward};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// As configured; twice the hold time, as RFC 9687 §6 allows.
const SEND_HOLD: Duration = Duration::from_secs(18);
/// Acknowledgements are looked at once a second, and the machine may be busy.
const LATE: Duration = Duration::from_secs(4);

/// Two such routers: one never reads again, the other does as soon as the speaker has given up.
pub fn closes() -> Result<String, String> {
    let (mute, late) = (listen()?, listen()?);
    let peer = |name: &str, listener: &TcpListener| {
        let address = listener.local_addr().expect("a bound socket");
        format!(
            "- {{name: {name}, address: {}, port: {}, asn: {EXTERNAL_ASN}, holdTime: 9s, sendHoldTime: 18s}}\n",
            address.ip(),
            address.port()
        )
    };
    let ward = Ward::start(&(peer("mute", &mute) + &peer("late", &late)))?;
    // Their listeners end with these threads: whoever dials again is refused.
    let [mute, late] = [mute, late].map(|listener| thread::spawn(move || shut(&listener)));
    let joined = |thread: thread::JoinHandle<Result<_, String>>| thread.join().map_err(|_| "a router panicked")?;
    let mut lines = [("mute", joined(mute)?), ("late", joined(late)?)];
    let mut peak = Peak::default();
    let mut ends: [Option<Duration>; 2] = [None, None];
    let mut told = None;
    while ends.contains(&None) {
        for ((name, (line, closed)), end) in lines.iter_mut().zip(&mut ends).filter(|(_, end)| end.is_none()) {
            let peer = ward.peer(name);
            if peer["state"] != "Established" {
                let reason = peer["lastDown"]["reason"].as_str().unwrap_or_default().to_owned();
                if !reason.contains("send hold timer") {
                    return Err(format!("{name} ended for another reason: {peer}"));
                }
                *end = Some(closed.elapsed());
                if *name == "late" {
                    told = line.last_words()?;
                }
            } else if closed.elapsed() > SEND_HOLD + LATE {
                return Err(format!("{name} is still Established after {:?}: {peer}", closed.elapsed()));
            }
        }
        peak.see(&ward);
        talk(&mut lines, &ends);
        thread::sleep(Duration::from_millis(100));
    }
    let ends = ends.map(|end| end.expect("both ended"));
    if ends.iter().any(|end| *end < SEND_HOLD - LATE) {
        return Err(format!("too early: {ends:?}"));
    }
    if told != Some(Told { code: 8, subcode: 0, data: vec![] }) {
        return Err(format!("the router that reads again finds {told:?}, not 8/0"));
    }
    drop(lines);
    Ok(format!(
        "ended {ends:.1?} after the windows closed, 8/0 on the wire; {}",
        ward.unharmed(Bounds::default(), peak)?
    ))
}

/// KEEPALIVEs twice a second or so: the hold timer has no reason.
fn talk(lines: &mut [(&str, (Line, Instant)); 2], ends: &[Option<Duration>; 2]) {
    for ((_, (line, _)), _) in lines.iter_mut().zip(ends).filter(|(_, end)| end.is_none()) {
        let _gone = line.say(&keepalive());
    }
}

/// A listener whose connections hold next to nothing.
fn listen() -> Result<TcpListener, String> {
    let listen = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(1024)?;
        socket.bind(&SocketAddr::from((crate::line::fresh(9), 0)).into())?;
        socket.listen(8)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    };
    listen().map_err(|error| error.to_string())
}

/// A session that has its whole table, so that nothing is pending, and whose window is shut; since when about.
fn shut(listener: &TcpListener) -> Result<(Line, Instant), String> {
    let (stream, _) = listener.accept().map_err(|error| error.to_string())?;
    let mut line = Line::of(stream);
    line.establish(&Who::new(EXTERNAL_ASN, 9).with(REFRESHES))?;
    let mut ends = 0;
    while ends < 2 {
        match line.next(PATIENCE) {
            // End-of-RIB of one family and the other (RFC 4724 §2).
            Heard::Message(2, body) if [4, 10].contains(&body.len()) => ends += 1,
            Heard::Message(..) => {}
            other => return Err(format!("no table but {other:?}")),
        }
    }
    let router = listener.local_addr().map_err(|error| error.to_string())?;
    let began = Instant::now();
    // Every answer to a request is three messages, and nobody reads them. Shut is a window behind which octets stay.
    loop {
        line.say(&[keepalive(), message(5, &[0, 1, 0, 1]).repeat(20)].concat())?;
        thread::sleep(Duration::from_millis(50));
        let closed = Instant::now();
        if unsent(router) > 0 {
            thread::sleep(Duration::from_millis(400));
            if unsent(router) > 0 {
                return Ok((line, closed));
            }
        }
        if began.elapsed() > PATIENCE {
            return Err("the window never closed".to_owned());
        }
    }
}
