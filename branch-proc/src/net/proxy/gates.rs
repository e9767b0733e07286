//! What passes from a client to a server and back: through a tunnel, or a request and its answer.

use crate::net::proxy::body::Body;
use crate::net::proxy::head::{self, After, Client};
use crate::net::proxy::hello::{self, Hello};
use crate::net::proxy::limits::HELLO_MAX;
use crate::net::proxy::refusal::{Refusal, repeated};
use crate::net::proxy::relay::{Gate, Verdict};
use crate::net::rule::{Host, HostRule};
use crate::net::verdict::listed;

/// Everything passes.
pub(crate) struct Open;

/// Everything passes, unless it begins with a TLS hello for a server that no rule names: behind the address
/// of an allowed host another one may be found by its name. No wall, as what is said inside TLS is not seen.
pub(crate) struct Tunnel<'a> {
    pub(crate) rules: &'a [HostRule],
    pub(crate) port: u16,
    pub(crate) checked: bool,
}

/// A request's body.
pub(crate) struct RequestBody(pub(crate) Body);

/// An answer: heads, then a body.
pub(crate) struct Answers {
    client: Client,
    /// None until its head has come.
    body: Option<Body>,
    after: After,
    /// How many bytes of a head have been searched for its end.
    seen: usize,
}

impl Gate for Open {
    fn look(&mut self, fresh: &[u8]) -> Verdict {
        Verdict::Pass(fresh.len())
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn may_end(&self) -> bool {
        true
    }

    fn tells_the_end(&self) -> bool {
        true
    }
}

impl Gate for Tunnel<'_> {
    fn look(&mut self, fresh: &[u8]) -> Verdict {
        if self.checked {
            return Verdict::Pass(fresh.len());
        }
        match hello::read(fresh) {
            Hello::Partial if fresh.len() < HELLO_MAX => return Verdict::Pass(0),
            Hello::Name(name) => {
                if let Some(refusal) = self.refuses(&name) {
                    return Verdict::Refuse(refusal);
                }
            }
            Hello::Partial | Hello::NoName => {}
        }
        self.checked = true;
        Verdict::Pass(fresh.len())
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn may_end(&self) -> bool {
        true
    }

    fn at_end(&mut self) {
        self.checked = true;
    }

    fn tells_the_end(&self) -> bool {
        true
    }
}

impl Tunnel<'_> {
    fn refuses(&self, name: &str) -> Option<Refusal> {
        let target = format!("{}:{}", repeated(name.as_bytes()), self.port);
        match Host::parse(name) {
            Ok(host) => {
                let refusal = listed(self.rules, &host, self.port).err()?;
                let words = format!("{refusal} (TLS asks for that server through a tunnel to another)");
                Some(Refusal::denied(target, words))
            }
            Err(why) => Some(Refusal::malformed(403, &target, why)),
        }
    }
}

impl Gate for RequestBody {
    fn look(&mut self, fresh: &[u8]) -> Verdict {
        match self.0.pass(fresh) {
            Ok(count) => Verdict::Pass(count),
            Err(why) => Verdict::Refuse(Refusal::malformed(400, "the body", why)),
        }
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn may_end(&self) -> bool {
        self.0.may_end()
    }

    fn tells_the_end(&self) -> bool {
        false
    }
}

impl Answers {
    pub(crate) fn to(client: Client) -> Answers {
        Answers { client, body: None, after: client.after, seen: 0 }
    }

    /// What becomes of the client's connection after the answer.
    pub(crate) fn after(&self) -> After {
        self.after
    }

    fn head(&mut self, fresh: &[u8]) -> Verdict {
        let refused =
            |why| Verdict::Refuse(Refusal::failed(502, format!("the server's answer is refused: {why}")));
        let end = match head::end(fresh, self.seen) {
            Ok(Some(end)) => end,
            Ok(None) => {
                self.seen = fresh.len();
                return Verdict::Pass(0);
            }
            Err(why) => return refused(why),
        };
        self.seen = 0;
        match head::answer(&fresh[..end], self.client) {
            Ok(answer) => {
                (self.body, self.after) = (answer.body, answer.after);
                Verdict::Replace(end, answer.head)
            }
            Err(why) => refused(why),
        }
    }
}

impl Gate for Answers {
    fn look(&mut self, fresh: &[u8]) -> Verdict {
        match &mut self.body {
            None => self.head(fresh),
            Some(body) => match body.pass(fresh) {
                Ok(count) => Verdict::Pass(count),
                Err(why) => {
                    Verdict::Refuse(Refusal::failed(502, format!("the server's answer is broken: {why}")))
                }
            },
        }
    }

    fn is_complete(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_complete)
    }

    fn may_end(&self) -> bool {
        self.body.as_ref().is_some_and(Body::may_end)
    }

    fn tells_the_end(&self) -> bool {
        false
    }
}
