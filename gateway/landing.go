package gateway

import (
	"net/url"
	"strings"
	"time"
)

// Landing holds the parameters of a landing, decoded once (protocol page,
// section 7).
type Landing struct {
	Token    string // as it came: whose it is, the home alone knows
	IDP      string // the home's wwwroot, in any spelling
	Wantsurl string // the page that is wanted
	Remote   bool   // at the home instead of here
}

// ParseLanding reads the raw query of a landing as ParseQuery does that of a
// jump.
func ParseLanding(raw string) (Landing, Rule) {
	var l Landing
	var remote string
	rule := readParameters(raw, []parameter{
		{"token", &l.Token}, {"idp", &l.IDP}, {"wantsurl", &l.Wantsurl}, {"remoteurl", &remote},
	})
	if rule != RuleOK {
		return Landing{}, rule
	}
	switch strings.ToLower(remote) { // PARAM_BOOL (source)
	case "", "0", "no", "off", "false":
	default:
		l.Remote = true
	}
	return l, RuleOK
}

// Query returns the query by which a Moodle understands the landing, with page
// for what is wanted, and nothing that it could read in another way.
func (l Landing) Query(page Target) string {
	query := "token=" + url.QueryEscape(l.Token) + "&idp=" + url.QueryEscape(l.IDP) + "&wantsurl=" + url.QueryEscape(page.String())
	if l.Remote {
		query += "&remoteurl=1"
	}
	return query
}

// DecideLanding is Decide for who comes here instead of leaving: which page
// they end on, and from which home of the allowlist they may come. own is the
// site itself, as OwnSite makes it. No grant is asked for: those that a Peer
// has are about jumps to it, and Moodle has its own for landings.
func DecideLanding(own, homes *Allowlist, l Landing, now time.Time) Decision {
	if l.IDP == "" {
		return Decision{Rule: RulePeerMissing}
	}
	home := homes.Find(l.IDP)
	switch {
	case home == nil:
		return Decision{Rule: RulePeerUnknown}
	case homes.closed:
		return Decision{Rule: RuleMNetOff, Peer: home}
	case home.Standing(now) != RuleOK:
		return Decision{Rule: home.Standing(now), Peer: home}
	}
	at := own.peers[0]
	if l.Remote {
		at = home
	}
	target, rule := ParseTarget(at, l.Wantsurl)
	return Decision{Allow: target.url != "", Rule: rule, Peer: home, Target: target}
}
