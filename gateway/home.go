package gateway

import "time"

// Homes returns the peers to which a site may send learners who are not logged
// in, in the order of the configuration: homes with which it deals at this
// time. A Mahara is none of them: its jump wants numbers that only it knows
// (protocol page, section 7).
func (l *Allowlist) Homes(now time.Time) []*Peer {
	var homes []*Peer
	for _, p := range l.peers {
		if l.home(p, now) == RuleOK {
			homes = append(homes, p)
		}
	}
	return homes
}

// home returns RuleOK, or the rule by which nobody is sent to a home.
func (l *Allowlist) home(p *Peer, now time.Time) Rule {
	switch standing := p.Standing(now); {
	case l.closed:
		return RuleMNetOff
	case standing != RuleOK:
		return standing
	case !p.IsHome() || p.Application != Moodle:
		return RulePeerGrant
	}
	return RuleOK
}

// DecideHome is Decide for who is sent to their home, to log in there and come
// back to a page of ours: to which home of the allowlist, named as Find takes
// it, and to which page. own is the site itself, as OwnSite makes it.
func DecideHome(own, homes *Allowlist, home, wantsurl string, now time.Time) Decision {
	if home == "" {
		return Decision{Rule: RulePeerMissing}
	}
	peer := homes.Find(home)
	if peer == nil {
		return Decision{Rule: RulePeerUnknown}
	}
	if rule := homes.home(peer, now); rule != RuleOK {
		return Decision{Rule: rule, Peer: peer}
	}
	d := DecideOwn(own, wantsurl)
	d.Peer = peer
	return d
}

// DecideOwn is Decide for a page of our own. own is the site itself, as OwnSite
// makes it.
func DecideOwn(own *Allowlist, wantsurl string) Decision {
	target, rule := ParseTarget(own.peers[0], wantsurl)
	return Decision{Allow: target.url != "", Rule: rule, Target: target}
}
