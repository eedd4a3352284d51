package idp

import (
	"errors"
	"net/http"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// Rates are how often jumps may take place; zero rates are no limits. What an
// address is charged for is the click: with the jump that is planted, or else
// with the token (see store.Limits, which has the same rate). What is refused
// for another reason, and a HEAD, is not charged at all.
type Rates struct {
	User    gateway.Rate // of one learner
	Address gateway.Rate // of one client address
	Peer    gateway.Rate // to one peer that has none of its own
}

// to returns what limits the jumps to a peer, whoever makes them.
func (l Rates) to(peer *gateway.Peer) store.Charge {
	rate := l.Peer
	if peer.Rate != nil {
		rate = *peer.Rate
	}
	return store.PerPeer(peer.Wwwroot, rate)
}

// landing returns what a token counts against that completes a jump which
// waited for a login.
func (p *Provider) landing(a Answer) []store.Charge {
	return []store.Charge{store.PerUser(a.Username, p.Rates.User), p.Rates.to(a.Peer)}
}

// direct returns what a token counts against that is minted for a jump at once.
func (p *Provider) direct(r *http.Request, a Answer) []store.Charge {
	return append(p.landing(a), store.PerAddress(p.Client(r), p.Rates.Address))
}

// failed returns the Answer to a jump for which there is no token: a refusal if
// there are too many, else an error.
func (a Answer) failed(err error) Answer {
	if limit, ok := errors.AsType[*store.RateError](err); ok {
		a = a.refuse(limit.Rule)
		a.After = limit.After
		return a
	}
	if errors.Is(err, store.ErrTooMany) {
		return a.refuse(gateway.RuleTooMany)
	}
	a.Err = err
	return a
}
