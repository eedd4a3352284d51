package sp

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"jumpgate/gateway"
)

// Learned knows at which home people are who have landed, by their mail
// addresses: it is a mail.Learned. A home says itself which addresses its people
// have, so it could say that of anybody, whose mails would lead through it. So
// a home is believed only
//
//   - if it is one of Homes, which the administrator has named,
//   - about who is not in Known,
//   - about no address below the domain of the site or of another peer, unless
//     the home is below that domain too,
//   - as long as no other of Homes says the same.
//
// Of an address only a hash with a key of the site is kept.
type Learned struct {
	Site  gateway.Wwwroot
	Names []gateway.Wwwroot // other names of the site
	Peers *gateway.Allowlist
	Homes []*gateway.Peer
	Known *gateway.MailHomes // nil for nobody
	Keys  gateway.Secrets
	Store MailHomes
}

// MailHomes remembers from which homes somebody came: store.Site.
type MailHomes interface {
	LearnMailHome(ctx context.Context, name string, home gateway.Wwwroot) error
	MailHomes(ctx context.Context, names []string) (wwwroots []string, err error)
}

// Bounds of what is asked of Redis about an address.
const (
	askTime  = 300 * time.Millisecond // a mail waits for it
	maxNames = 8                      // of an address: one for each key, the latest first
)

// Learn notes that somebody with an address has come from a home, if that is
// believed about it.
func (l *Learned) Learn(ctx context.Context, home *gateway.Peer, address string) error {
	spelled, domain, ok := gateway.MailDomain(address)
	if !ok || !slices.Contains(l.believed(spelled, domain), home) {
		return nil
	}
	return l.Store.LearnMailHome(ctx, l.names(spelled)[0], home.Wwwroot)
}

// HomeOf returns the only home from which somebody with an address has come
// lately, or nil. One round trip, or none if no home would be believed.
func (l *Learned) HomeOf(ctx context.Context, address string) (*gateway.Peer, error) {
	spelled, domain, ok := gateway.MailDomain(address)
	believed := l.believed(spelled, domain)
	if !ok || len(believed) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found, err := l.Store.MailHomes(ctx, l.names(spelled))
	if err != nil {
		return nil, err
	}
	var only *gateway.Peer
	for _, wwwroot := range found {
		home := l.Peers.Exact(wwwroot)
		switch {
		case home == nil || home == only || !slices.Contains(believed, home):
		case only != nil:
			return nil, nil
		default:
			only = home
		}
	}
	return only, nil
}

// believed returns the homes that are believed about who has an address.
func (l *Learned) believed(spelled, domain string) []*gateway.Peer {
	if l.Known != nil {
		if _, said := l.Known.Home(spelled); said {
			return nil
		}
	}
	owner := registered(domain)
	owns := func(w gateway.Wwwroot) bool { return registered(w.Hostname()) == owner }
	owned := owns(l.Site) || slices.ContainsFunc(l.Names, owns) ||
		slices.ContainsFunc(l.Peers.Peers(), func(p *gateway.Peer) bool { return owns(p.Wwwroot) || slices.ContainsFunc(p.Aliases, owns) })
	if !owned {
		return l.Homes
	}
	var homes []*gateway.Peer
	for _, home := range l.Homes {
		if owns(home.Wwwroot) {
			homes = append(homes, home)
		}
	}
	return homes
}

// registered returns the domain that somebody has registered, to which a host
// belongs: example.org for www.example.org.
func registered(host string) string {
	if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return domain
	}
	return host
}

// names returns what an address is called in Redis.
func (l *Learned) names(spelled string) []string {
	var names []string
	for _, key := range l.Keys() {
		mac := hmac.New(sha256.New, key[:])
		mac.Write([]byte(spelled))
		names = append(names, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	}
	return names[:min(len(names), maxNames)]
}

// Learning is what is learned of landings, or taken up, after their answers. A
// landing never waits for it: what does not get its turn has it the next time.
// Close ends it.
type Learning struct {
	ctx   context.Context
	stop  context.CancelFunc
	turns chan struct{}

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

const (
	maxLearning = 16               // at once
	learnTime   = 15 * time.Second // for each
)

// NewLearning returns a Learning that has nothing to do.
func NewLearning() *Learning {
	l := &Learning{turns: make(chan struct{}, maxLearning)}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// Wait waits until nothing is left to learn.
func (l *Learning) Wait() { l.running.Wait() }

// Close breaks off what is under way, and waits for its end.
func (l *Learning) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.running.Wait()
}

// start has something learned when it is its turn. failed is told why that went wrong,
// but not that the end broke it off.
func (l *Learning) start(learn func(context.Context) error, failed func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.turns <- struct{}{}:
	default:
		return
	}
	l.running.Go(func() {
		defer func() { <-l.turns }()
		ctx, cancel := context.WithTimeout(l.ctx, learnTime)
		defer cancel()
		if err := learn(ctx); err != nil && l.ctx.Err() == nil {
			failed(err)
		}
	})
}

// Learns is how a site learns of its landings.
type Learns struct {
	*Learned
	Learning *Learning
	Failed   func(error)
}

// Learn learns, in the background, of an arrival that has logged somebody in.
func (l *Landings) Learn(a Arrival) {
	landed := a.Outcome == OutcomeLanded || a.Outcome == OutcomeSame || a.Outcome == OutcomeSwitched
	if l.Learns == nil || !landed || a.Refused || a.Err != nil || a.mail == "" || !slices.Contains(l.Learns.Homes, a.Home) {
		return
	}
	l.Learns.Learning.start(func(ctx context.Context) error { return l.Learns.Learn(ctx, a.Home, a.mail) }, l.Learns.Failed)
}

// remoteMail returns the mail address of who has landed at a Moodle with MNet,
// or "" for anybody else.
func remoteMail(who gateway.Identity) string {
	if !who.Remote || who.LoginAs {
		return ""
	}
	return who.User.Email
}
