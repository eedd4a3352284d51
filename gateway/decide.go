package gateway

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query holds the parameters of a jump, decoded once.
type Query struct {
	Hostwwwroot string // the peer's wwwroot, in any spelling
	HostID      string // or its number in Moodle's mnet_host table
	Wantsurl    string // the page that is wanted there
	Hub         string // not empty: a hub takes us for the learner's home
	Link        string // a token that signs the link; empty for none
}

// FromHub ends a jump link that takes a remote learner home. A home that does
// not know them as its own sends them nowhere else: two sites that each take
// the other for the home would have a browser run in circles.
const FromHub = "&hub=1"

// Signed returns a jump link with the token that signs it.
func Signed(link, token string) string { return link + "&link=" + url.QueryEscape(token) }

// JumpLink returns the address at home, a site of the given kind, that takes
// its learner to a page of site, logged in (protocol page, section 7): the
// link that a forum mail carries. The page's fragment travels inside wantsurl,
// escaped, and survives every redirect on the way.
func JumpLink(home Wwwroot, application Application, site Wwwroot, page Target) string {
	return home.String() + application.JumpPath() +
		"?hostwwwroot=" + url.QueryEscape(site.String()) +
		"&wantsurl=" + url.QueryEscape(page.String())
}

// LandLink returns the address at a peer that redeems a token of home and shows
// the page (protocol page, section 7). token is of letters and digits alone.
func LandLink(peer *Peer, home Wwwroot, token string, page Target) string {
	return peer.Wwwroot.String() + peer.Application.LandPath() +
		"?token=" + token + "&idp=" + home.String() + "&wantsurl=" + url.QueryEscape(page.String())
}

// maxQuery is the longest query of a jump or landing, in bytes. A wantsurl of 2,048
// bytes with every byte escaped fits.
const maxQuery = 16 << 10

// ParseQuery reads the raw query of a jump request. Parameters that a jump
// does not have are ignored, as Moodle does; one that is repeated or cannot
// be unescaped is refused, since two readers might take different values.
//
// A home that was a Mahara once left links with the parameters of Mahara's
// jump (protocol page, section 7): wr is another name of hostwwwroot, and ins,
// a number in Mahara's own tables, means nothing here.
func ParseQuery(raw string) (Query, Rule) {
	var q Query
	var wr string
	if rule := readParameters(raw, []parameter{
		{"hostwwwroot", &q.Hostwwwroot}, {"hostid", &q.HostID}, {"wantsurl", &q.Wantsurl},
		{"hub", &q.Hub}, {"wr", &wr}, {"link", &q.Link},
	}); rule != RuleOK {
		return Query{}, rule
	}
	if q.Hostwwwroot != "" && wr != "" && q.Hostwwwroot != wr {
		return Query{}, RulePeerConflict
	}
	q.Hostwwwroot = cmp.Or(q.Hostwwwroot, wr)
	return q, RuleOK
}

// parameter is one that a query may have once, and where its value goes.
type parameter struct {
	name string
	to   *string
}

// readParameters reads the given parameters of a raw query and ignores others.
func readParameters(raw string, known []parameter) Rule {
	if len(raw) > maxQuery {
		return RuleQueryTooLong
	}
	var seen [8]bool
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(known, func(p parameter) bool { return p.name == name })
		if i < 0 {
			continue
		}
		if seen[i] {
			return RuleRepeated
		}
		seen[i] = true
		if *known[i].to, err = url.QueryUnescape(value); err != nil {
			return RuleBadQuery
		}
	}
	return RuleOK
}

// Decision says where a jump lands, or which rule refuses it.
type Decision struct {
	Allow  bool
	Rule   Rule   // what decided, in both cases
	Peer   *Peer  // nil if the peer is not known
	Target Target // zero unless allowed
}

// Decide is the one place that decides where a jump may land: on which page
// of which peer of the allowlist, or nowhere. Peers may be good for a time only.
func Decide(l *Allowlist, q Query, now time.Time) Decision {
	peer, rule := l.lookup(q, now)
	if rule != RuleOK {
		return Decision{Rule: rule, Peer: peer}
	}
	target, rule := ParseTarget(peer, q.Wantsurl)
	return Decision{Allow: target.url != "", Rule: rule, Peer: peer, Target: target}
}

// DecideAt is Decide at a site. A link that names no peer, but the site itself,
// leads to a page of its own: a forum may have become a part of its home.
func DecideAt(own, peers *Allowlist, q Query, now time.Time) (d Decision, itself bool) {
	if d = Decide(peers, q, now); d.Rule == RulePeerUnknown {
		if o := Decide(own, q, now); o.Peer != nil {
			return o, true
		}
	}
	return d, false
}

func (l *Allowlist) lookup(q Query, now time.Time) (*Peer, Rule) {
	var peer *Peer
	if q.Hostwwwroot != "" {
		if peer = l.Find(q.Hostwwwroot); peer == nil {
			return nil, RulePeerUnknown
		}
	}
	// Moodle's own links say hostid=0 where they mean none.
	if q.HostID != "" && q.HostID != "0" {
		id, err := strconv.Atoi(q.HostID)
		if err != nil {
			return nil, RulePeerMalformed
		}
		byID := l.FindID(id)
		switch {
		case byID == nil:
			return nil, RulePeerUnknown
		case peer != nil && peer != byID:
			return nil, RulePeerConflict
		}
		peer = byID
	}
	switch {
	case peer == nil:
		return nil, RulePeerMissing
	case l.closed:
		return peer, RuleMNetOff
	case peer.Standing(now) != RuleOK:
		return peer, peer.Standing(now)
	// A learner gets in if the peer may ask us who they are, and if it lets
	// us send them (protocol page, section 5.2).
	case !peer.Publishes(ServiceSSOIDP) || !peer.Subscribes(ServiceSSOSP):
		return peer, RulePeerGrant
	}
	return peer, RuleOK
}
