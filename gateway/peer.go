package gateway

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Application is what kind of site a peer is; it decides the paths below its
// wwwroot (protocol page, section 1).
type Application string

// The applications that speak MNet.
const (
	Moodle Application = "moodle"
	Mahara Application = "mahara"
)

// LandPath returns the path that redeems a token.
func (a Application) LandPath() string {
	if a == Mahara {
		return "/auth/xmlrpc/land.php"
	}
	return "/auth/mnet/land.php"
}

// JumpPath returns the path that starts a jump.
func (a Application) JumpPath() string {
	if a == Mahara {
		return "/auth/xmlrpc/jump.php"
	}
	return "/auth/mnet/jump.php"
}

// RPCPath returns the path of the XML-RPC endpoint.
func (a Application) RPCPath() string {
	if a == Mahara {
		return "/api/xmlrpc/server.php"
	}
	return "/mnet/xmlrpc/server.php"
}

// Services of MNet that Jumpgate knows (protocol page, section 5.2).
const (
	ServiceSSOIDP    = "sso_idp"
	ServiceSSOSP     = "sso_sp"
	ServiceMnetEnrol = "mnet_enrol"
)

// Peer is a remote host on the allowlist.
type Peer struct {
	Wwwroot     Wwwroot
	Aliases     []Wwwroot // former or second names: accepted, never emitted
	HostID      int       // what hostid=N in old links means; 0 for none
	Name        string    // what pages call it; empty for the host name
	Application Application
	AllowPaths  []string // prefixes of the paths below the wwwroot; empty for all
	DenyPaths   []string // prefixes that are closed all the same

	Rate    *Rate     // of jumps there; nil for the one that is configured for all
	Off     bool      // switched off: nobody jumps there, and its calls are not answered
	Expires time.Time // from then on it is as if it were off; zero for never

	// Publish and Subscribe are Moodle's two halves of a grant: the peer may
	// call our methods of a service; we may call the peer's.
	Publish   []string
	Subscribe []string

	// Roam says which of our own users may jump to the peer; Access, which of
	// the peer's users may use our site.
	Roam   Access
	Access Access

	// RequireSigned refuses jumps to the peer whose links it has not signed.
	RequireSigned bool

	// Export names the fields of ProfileFields that the peer learns about a
	// user; nil for all.
	Export []string

	// Import names the fields of ImportFields that are taken from the peer about
	// its learners who land here, and AutoAdd says what becomes of those who
	// have no account here yet. Both are for sites whose Moodle has no MNet; nil
	// is for all.
	Import  []string
	AutoAdd AutoAdd

	// Certificate is pinned by the configuration; if it is nil, Fingerprint
	// says which one to accept, and if that is zero too, the first one
	// fetched over a safe connection is pinned.
	Certificate *Certificate
	Fingerprint Fingerprint
}

// Label returns what a page calls the peer.
func (p *Peer) Label() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Wwwroot.Host() + p.Wwwroot.Path()
}

// Publishes reports whether the peer may call our methods of service.
func (p *Peer) Publishes(service string) bool { return slices.Contains(p.Publish, service) }

// Subscribes reports whether we may call the peer's methods of service.
func (p *Peer) Subscribes(service string) bool { return slices.Contains(p.Subscribe, service) }

// IsHome reports whether learners of the peer may come here: it may send them,
// and we may ask it who they are (protocol page, section 5.2).
func (p *Peer) IsHome() bool { return p.Publishes(ServiceSSOSP) && p.Subscribes(ServiceSSOIDP) }

// Standing returns RuleOK, or the rule by which nobody deals with the peer at
// this time.
func (p *Peer) Standing(now time.Time) Rule {
	switch {
	case p.Off:
		return RulePeerOff
	case !p.Expires.IsZero() && !now.Before(p.Expires):
		return RulePeerExpired
	}
	return RuleOK
}

// LastDay returns the last day of a peer that expires, in UTC, as 2027-01-31;
// empty if it does not.
func (p *Peer) LastDay() string {
	if p.Expires.IsZero() {
		return ""
	}
	return p.Expires.UTC().Add(-time.Nanosecond).Format(time.DateOnly)
}

// ProfileFields are the fields of a user that Moodle sends to a peer unless an
// administrator chooses others, in the order in which it sends them (protocol
// page, section 6). A username, names and a mail address always travel.
var ProfileFields = []string{
	"city", "country", "lang", "timezone", "description", "mailformat", "maildigest", "maildisplay", "picture",
}

// Exports reports whether the peer learns a field of ProfileFields.
func (p *Peer) Exports(field string) bool {
	return p.Export == nil || slices.Contains(p.Export, field)
}

// ImportFields are the fields of ProfileFields that a Moodle without MNet can take
// up: those for which the plugin by which learners are logged in has a header, and
// the picture, for which its web services have a function.
var ImportFields = []string{"city", "country", "lang", "picture"}

// Imports reports whether a field of ImportFields is taken from the peer.
func (p *Peer) Imports(field string) bool {
	return p.Import == nil || slices.Contains(p.Import, field)
}

// AutoAdd says what becomes of learners who land and have no account here yet.
// It has the name of Moodle's setting auto_add_remote_users, which nothing heeds
// since 2010: they are always added, and so is the empty AutoAdd AutoAddCreate.
type AutoAdd string

// What may become of learners without an account.
const (
	AutoAddCreate   AutoAdd = "create"   // they get one
	AutoAddExisting AutoAdd = "existing" // they are turned away
	AutoAddAsk      AutoAdd = "ask"      // they are asked whether they want one
)

// LooksUp reports whether it matters if a learner has an account.
func (a AutoAdd) LooksUp() bool { return a == AutoAddExisting || a == AutoAddAsk }

// Names returns the wwwroot and then the aliases.
func (p *Peer) Names() []Wwwroot { return append([]Wwwroot{p.Wwwroot}, p.Aliases...) }

// Is reports whether w is the peer's wwwroot or an alias.
func (p *Peer) Is(w Wwwroot) bool { return w == p.Wwwroot || slices.Contains(p.Aliases, w) }

// Allowlist holds the peers of one site. It does not change once made.
type Allowlist struct {
	peers  []*Peer
	byName map[string]*Peer
	byID   map[int]*Peer
	closed bool

	byOrigin map[string][]*Peer // of the wwwroots
}

// NewAllowlist checks that no two peers share a wwwroot, alias or host id.
func NewAllowlist(peers ...*Peer) (*Allowlist, error) {
	l := &Allowlist{peers: peers, byName: map[string]*Peer{}, byID: map[int]*Peer{}, byOrigin: map[string][]*Peer{}}
	for _, p := range peers {
		for _, name := range p.Names() {
			if other, taken := l.byName[name.String()]; taken {
				return nil, fmt.Errorf("%s names both %s and %s", name, other.Wwwroot, p.Wwwroot)
			}
			l.byName[name.String()] = p
		}
		l.byOrigin[p.Wwwroot.Origin()] = append(l.byOrigin[p.Wwwroot.Origin()], p)
		if p.HostID == 0 {
			continue
		}
		if other, taken := l.byID[p.HostID]; taken {
			return nil, fmt.Errorf("host id %d names both %s and %s", p.HostID, other.Wwwroot, p.Wwwroot)
		}
		l.byID[p.HostID] = p
	}
	return l, nil
}

// OwnSite returns a list of the site itself alone, as the forum of links that
// name it by its wwwroot or an alias.
func OwnSite(site Wwwroot, aliases ...Wwwroot) *Allowlist {
	p := &Peer{
		Wwwroot: site, Aliases: aliases, Application: Moodle,
		Publish: []string{ServiceSSOIDP}, Subscribe: []string{ServiceSSOSP},
	}
	l := &Allowlist{peers: []*Peer{p}, byName: map[string]*Peer{}}
	for _, name := range p.Names() {
		l.byName[name.String()] = p
	}
	return l
}

// Closed returns the allowlist of a site where MNet is switched off: it knows
// the same peers, and Decide sends nobody to any.
func (l *Allowlist) Closed() *Allowlist {
	c := *l
	c.closed = true
	return &c
}

// Peers returns all peers in the order of the configuration.
func (l *Allowlist) Peers() []*Peer { return l.peers }

// Exact returns the peer with exactly this wwwroot or alias, as MNet messages
// name it (protocol page, section 1).
func (l *Allowlist) Exact(wwwroot string) *Peer { return l.byName[wwwroot] }

// Caller is Exact for a message that comes in at this time: a peer that is
// switched off, or over, is nobody.
func (l *Allowlist) Caller(wwwroot string, now time.Time) *Peer {
	if p := l.byName[wwwroot]; p != nil && p.Standing(now) == RuleOK {
		return p
	}
	return nil
}

// Find returns the peer that a hostwwwroot parameter means, in any spelling
// that means one: its wwwroot or an alias, in upper or lower case, with a
// trailing slash, without scheme (then https is tried before http).
func (l *Allowlist) Find(hostwwwroot string) *Peer {
	if p, ok := l.byName[hostwwwroot]; ok {
		return p
	}
	if strings.Contains(hostwwwroot, "://") {
		return l.findSpelled(hostwwwroot)
	}
	if p := l.findSpelled("https://" + hostwwwroot); p != nil {
		return p
	}
	return l.findSpelled("http://" + hostwwwroot)
}

func (l *Allowlist) findSpelled(s string) *Peer {
	w, err := ParseWwwroot(s)
	if err != nil {
		return nil
	}
	return l.byName[w.String()]
}

// FindID returns the peer with the given host id.
func (l *Allowlist) FindID(id int) *Peer { return l.byID[id] }
