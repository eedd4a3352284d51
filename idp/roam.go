package idp

import (
	"net/http"

	"jumpgate/gateway"
)

// What an Answer's Location may be besides our login page and a landing.
const (
	OutcomeHome  = "home"  // at the home of a remote learner: its jump, or its own page
	OutcomeOwn   = "own"   // a page of our own site
	OutcomeMoved = "moved" // our own jump address, which was asked for under an alias
)

// admit says whether a learner who is logged in, by this session, may go where a
// decision leads. If the Answer is final, no token may be minted.
func (p *Provider) admit(r *http.Request, a Answer, session string, who gateway.Identity) Answer {
	a.Username = who.User.Username
	switch rule := who.Standing(); {
	case a.Refused || a.Location != "":
	case rule == gateway.RuleUserRemote:
		return p.homeward(a, who.User)
	case rule != gateway.RuleOK:
		return a.refuse(rule)
	case !gateway.MayRoam(p.Roam, a.Peer, who.User.Username):
		return a.refuse(gateway.RuleUserNotAllowed)
	default:
		return p.meant(r, a, session, who)
	}
	return a
}

// homeward sends a learner whose account lives at a peer to that peer, which
// can vouch for them; we never do. What the learner wants at the home
// itself needs no jump. A Mahara's jump wants numbers that only it knows
// (protocol page, section 7), so its learners find the way themselves.
func (p *Provider) homeward(a Answer, user gateway.User) Answer {
	var username string
	if a.Home, username = p.homeOf(user); a.Home != nil && a.Home.Standing(p.Now()) != gateway.RuleOK {
		a.Home = nil // no page of ours leads there either
	}
	switch {
	case a.Home == nil:
		return a.refuse(gateway.RuleUserRemote)
	case !a.Home.Access.Allows(username):
		return a.refuse(gateway.RuleUserAccess)
	case a.Home == a.Peer:
		a.Location = a.Target.URL()
	case a.fromHub, a.Home.Application != gateway.Moodle:
		return a.refuse(gateway.RuleUserRemote)
	default:
		a.Location = gateway.JumpLink(a.Home.Wwwroot, a.Home.Application, a.Peer.Wwwroot, a.Target) + gateway.FromHub
	}
	a.Outcome = OutcomeHome
	return a
}

// homeOf returns the home of a remote learner, if it is a peer, and what they are
// called there. Moodle knows it by its id in mnet_host, as links have it (hostid).
func (p *Provider) homeOf(user gateway.User) (*gateway.Peer, string) {
	if p.HomeOf != nil {
		if home, username, ours := p.HomeOf(user); ours {
			return home, username
		}
	}
	return p.Peers.FindID(int(user.MnetHostID)), user.Username
}

// Forward answers a request for the jump address under an alias of the site.
// Moodle's cookie belongs to the wwwroot, so the learner goes on there, with
// the decided link written anew; what is refused there is refused here.
func (p *Provider) Forward(r *http.Request) Answer {
	origin := gateway.OriginOf(r.Header, p.names...)
	query, rule := gateway.ParseQuery(r.URL.RawQuery)
	if rule != gateway.RuleOK {
		return Answer{Rule: rule, Refused: true, Origin: origin}
	}
	a := p.decide(query)
	a.Origin = origin
	if a.Refused || a.Location != "" {
		return a
	}
	a.Outcome = OutcomeMoved
	a.Location = gateway.JumpLink(p.Site, gateway.Moodle, a.Peer.Wwwroot, a.Target)
	if a.fromHub {
		a.Location += gateway.FromHub
	}
	if query.Link != "" {
		a.Location = gateway.Signed(a.Location, query.Link)
	}
	return a
}
