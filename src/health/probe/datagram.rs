//! Probes over UDP: a datagram, and what comes of it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{HealthProbe, ProbeError};
use crate::health::Target;
use crate::health::dns::{self, Rcode};
use crate::health::reach;

/// As long as any datagram.
const LONGEST: usize = 1 << 16;

/// A query over DNS. Any answer but SERVFAIL is a good one: a server that refuses to speak of a name, or says that there is
/// no such name, does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProbe {
    /// The name whose address is asked for; `.` asks for the root's name servers.
    pub name: String,
}

/// A datagram of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpProbe {
    /// What is sent.
    pub send: Vec<u8>,
    /// A part of the answer. `None` needs no answer: silence is good, and only ICMP says that nobody listens.
    pub expect: Option<Vec<u8>>,
    /// Silence for so long is good, if no answer is needed.
    pub silence: Duration,
}

impl HealthProbe for DnsProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        let query = dns::query(fastrand::u16(..), &self.name);
        let conversation = Conversation::begin(target, &query).await?;
        let mut space = vec![0; LONGEST];
        loop {
            let message = conversation.hear(&mut space).await?;
            match dns::answer(message, &query) {
                Ok(Rcode::SERVFAIL) => return Err(ProbeError::Dns(Rcode::SERVFAIL)),
                Ok(_) => return Ok(()),
                // Somebody else's, or an old one.
                Err(_) => {}
            }
        }
    }
}

impl HealthProbe for UdpProbe {
    async fn probe(&self, target: &Target) -> Result<(), ProbeError> {
        let conversation = Conversation::begin(target, &self.send).await?;
        let mut space = vec![0; LONGEST];
        let Some(expected) = &self.expect else {
            let heard = timeout(self.silence, conversation.hear(&mut space)).await;
            return heard.map_or(Ok(()), |heard| heard.map(drop));
        };
        let answer = conversation.hear(&mut space).await?;
        let is_expected =
            expected.is_empty() || answer.windows(expected.len()).any(|it| it == expected);
        match is_expected {
            true => Ok(()),
            false => Err(ProbeError::Datagram),
        }
    }
}

/// A socket that hears from the target only.
struct Conversation {
    socket: UdpSocket,
    addr: SocketAddr,
}

impl Conversation {
    /// Sends a datagram to the first address of the target that there is a way to.
    async fn begin(target: &Target, datagram: &[u8]) -> Result<Self, ProbeError> {
        let mut failed = None;
        for &addr in &target.addrs {
            let begun = async {
                let socket = UdpSocket::bind(any_port(addr)).await?;
                socket.connect(addr).await?;
                socket.send(datagram).await?;
                io::Result::Ok(socket)
            };
            match begun.await {
                Ok(socket) => return Ok(Self { socket, addr }),
                Err(error) => failed = reach::telling(failed, (addr, error)),
            }
        }
        Err(reach::of_addresses(failed))
    }

    async fn hear<'a>(&self, space: &'a mut [u8]) -> Result<&'a [u8], ProbeError> {
        match self.socket.recv(space).await {
            Ok(length) => Ok(&space[..length]),
            Err(source) => {
                let addr = self.addr;
                Err(ProbeError::Connect { addr, source })
            }
        }
    }
}

/// Any port of any own address from where `peer` can be reached.
fn any_port(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that gives to each datagram what `answer` makes of it.
    async fn server(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Target {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            addrs: vec![socket.local_addr().unwrap()],
            ..Target::default()
        };
        tokio::spawn(async move {
            let mut space = [0; 2048];
            while let Ok((length, client)) = socket.recv_from(&mut space).await {
                for answer in answer(&space[..length]) {
                    socket.send_to(&answer, client).await.unwrap();
                }
            }
        });
        target
    }

    async fn closed() -> Target {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Target {
            addrs: vec![socket.local_addr().unwrap()],
            ..Target::default()
        }
    }

    async fn verdict(probe: &impl HealthProbe, target: &Target) -> Result<(), String> {
        let probed = timeout(Duration::from_secs(10), probe.probe(target)).await;
        probed.unwrap().map_err(|error| error.to_string())
    }

    fn dns() -> DnsProbe {
        DnsProbe {
            name: ".".to_owned(),
        }
    }

    fn udp(expect: Option<&str>) -> UdpProbe {
        UdpProbe {
            send: b"ping".to_vec(),
            expect: expect.map(|it| it.as_bytes().to_vec()),
            silence: Duration::from_millis(50),
        }
    }

    async fn dns_server(rcode: u8) -> Target {
        server(move |query| {
            let mut answer = query.to_vec();
            answer[2] |= 0x80;
            answer[3] = rcode;
            let mut others = answer.clone();
            others[0] ^= 1;
            vec![others, b"noise".to_vec(), answer]
        })
        .await
    }

    #[tokio::test]
    async fn a_dns_server_that_answers_is_well_whatever_it_says_but_servfail() {
        for rcode in [0, 3, 5] {
            assert_eq!(verdict(&dns(), &dns_server(rcode).await).await, Ok(()));
        }
        let failed = verdict(&dns(), &dns_server(2).await).await;
        assert_eq!(failed, Err("DNS answer SERVFAIL".to_owned()));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_not_well_if_an_answer_is_expected() {
        let silent = server(|_| Vec::new()).await;
        let heard = timeout(Duration::from_millis(50), dns().probe(&silent)).await;
        assert!(heard.is_err());
        let heard = timeout(Duration::from_millis(50), udp(Some("pong")).probe(&silent)).await;
        assert!(heard.is_err());
        assert_eq!(verdict(&udp(None), &silent).await, Ok(()));
    }

    #[tokio::test]
    async fn an_answer_has_what_is_expected_anywhere_in_it() {
        let echo = server(|datagram| vec![[b"re: ", datagram, b"!"].concat()]).await;
        for expect in [None, Some("ping"), Some("re: ping!"), Some("")] {
            assert_eq!(verdict(&udp(expect), &echo).await, Ok(()), "{expect:?}");
        }
        let other = verdict(&udp(Some("pong")), &echo).await;
        assert_eq!(other, Err("the answer has not what is expected".to_owned()));
    }

    #[tokio::test]
    async fn where_nobody_listens_a_probe_fails_at_once() {
        let closed = closed().await;
        for verdict in [
            verdict(&dns(), &closed).await,
            verdict(&udp(None), &closed).await,
        ] {
            let error = verdict.unwrap_err();
            assert!(error.contains("Connection refused"), "{error}");
        }
    }
}
