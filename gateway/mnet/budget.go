package mnet

import (
	"container/list"
	"context"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// allowance is a token bucket: calls per second, and how many at once.
type allowance struct {
	perSecond rate.Limit
	burst     int
}

// A sealed call costs about two RSA private operations, and anybody can send
// one that claims to be anybody. An address that has sent a valid message of a
// peer has an allowance of its own for that peer; all others share: what they
// send is limited by address and claimed peer, by address, by claimed peer,
// and all together. So a flood finds its bounds without shutting out the peers
// that were there before it.
var (
	provenAllowance   = allowance{200, 400} // one address for a peer whose messages it has sent
	pairAllowance     = allowance{10, 40}   // one address for one claimed peer, before that
	addressAllowance  = allowance{40, 160}  // one address, before that
	peerAllowance     = allowance{40, 160}  // one claimed peer, from all such addresses
	unprovenAllowance = allowance{200, 400} // everybody who is not proven

	// A keyswap costs no RSA operation, but whoever listens to them some work.
	swapAllowance  = allowance{0.1, 10} // one address
	swapsAllowance = allowance{2, 50}   // everybody
)

const (
	budgetEntries   = 4096             // in each table
	idleTime        = 10 * time.Minute // longer than any bucket takes to fill up
	provenTime      = 24 * time.Hour
	workPatience    = 2 * time.Second // how long a call waits for a processor
	retryAfterFlood = "2"             // seconds, for Retry-After
)

// caller is an address that claims to be a peer.
type caller struct {
	addr netip.Addr
	peer string
}

// Budget limits the RSA work of a site's Server, and outlives it where one
// follows another: whoever has proven to be there is not to begin anew.
type Budget struct {
	mu sync.Mutex
	limits
	late    limits // for what the current key does not open
	swaps   *table[netip.Addr]
	allSwap *rate.Limiter
	working chan struct{} // a slot for each RSA operation at a time
}

// limits are the buckets for one kind of work.
type limits struct {
	proven *table[caller]
	pairs  *table[caller]
	addrs  *table[netip.Addr]
	peers  *table[string]
	rest   *rate.Limiter
}

func newLimits() limits {
	return limits{
		proven: newTable[caller](provenAllowance, provenTime),
		pairs:  newTable[caller](pairAllowance, idleTime),
		addrs:  newTable[netip.Addr](addressAllowance, idleTime),
		peers:  newTable[string](peerAllowance, idleTime),
		rest:   rate.NewLimiter(unprovenAllowance.perSecond, unprovenAllowance.burst),
	}
}

// NewBudget returns a Budget that nobody has used.
func NewBudget() *Budget {
	return &Budget{
		limits: newLimits(), late: newLimits(),
		swaps:   newTable[netip.Addr](swapAllowance, idleTime),
		allSwap: rate.NewLimiter(swapsAllowance.perSecond, swapsAllowance.burst),
		// Half of the processors are left to the pages that pass through.
		working: make(chan struct{}, (runtime.GOMAXPROCS(0)+1)/2),
	}
}

// allow reports whether one more RSA operation may be spent on a caller.
func (b *Budget) allow(c caller, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.allow(c, 1, now)
}

// allowLate reports whether a message that the current key does not open may
// cost n more operations: for late messages, which are few, so that they do not
// use up what the others need.
func (b *Budget) allowLate(c caller, n int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.late.allow(c, n, now)
}

// allow asks the narrowest limit first, so that whoever exceeds it uses up
// nothing that is shared.
func (l *limits) allow(c caller, n int, now time.Time) bool {
	c.addr = network(c.addr)
	if p := l.proven.find(c, now); p != nil {
		return p.AllowN(now, n)
	}
	return l.pairs.get(c, now).AllowN(now, n) &&
		l.addrs.get(c.addr, now).AllowN(now, n) &&
		l.peers.get(c.peer, now).AllowN(now, n) &&
		l.rest.AllowN(now, n)
}

// allowSwap reports whether one more keyswap of addr may be told of.
func (b *Budget) allowSwap(addr netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.swaps.get(network(addr), now).AllowN(now, 1) && b.allSwap.AllowN(now, 1)
}

// prove notes that c has sent a message with a valid signature.
func (b *Budget) prove(c caller, now time.Time) {
	c.addr = network(c.addr)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.proven.get(c, now)
	b.late.proven.get(c, now)
}

// work runs f when a processor is free and reports whether one was.
func (b *Budget) work(ctx context.Context, f func()) bool {
	ctx, cancel := context.WithTimeout(ctx, workPatience)
	defer cancel()
	select {
	case b.working <- struct{}{}:
		defer func() { <-b.working }()
		f()
		return true
	case <-ctx.Done():
		return false
	}
}

// network returns what one customer of a provider holds: an IPv4 address or an
// IPv6 network of 64 bits.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// table holds the buckets of the callers seen last. It forgets those that
// were idle for a while and, when it is full, the one that was idle longest.
type table[K comparable] struct {
	allowance
	idle    time.Duration
	entries map[K]*list.Element
	order   *list.List // of *entry[K], the last one used in front
}

type entry[K comparable] struct {
	key     K
	used    time.Time
	limiter *rate.Limiter
}

func newTable[K comparable](a allowance, idle time.Duration) *table[K] {
	return &table[K]{allowance: a, idle: idle, entries: map[K]*list.Element{}, order: list.New()}
}

// find returns the bucket of key, or nil.
func (t *table[K]) find(key K, now time.Time) *rate.Limiter {
	t.forget(now)
	element, ok := t.entries[key]
	if !ok {
		return nil
	}
	t.order.MoveToFront(element)
	e := element.Value.(*entry[K])
	e.used = now
	return e.limiter
}

// get returns the bucket of key, a full one if there was none.
func (t *table[K]) get(key K, now time.Time) *rate.Limiter {
	if l := t.find(key, now); l != nil {
		return l
	}
	if t.order.Len() >= budgetEntries {
		t.drop(t.order.Back())
	}
	e := &entry[K]{key: key, used: now, limiter: rate.NewLimiter(t.perSecond, t.burst)}
	t.entries[key] = t.order.PushFront(e)
	return e.limiter
}

func (t *table[K]) forget(now time.Time) {
	for last := t.order.Back(); last != nil && now.Sub(last.Value.(*entry[K]).used) > t.idle; last = t.order.Back() {
		t.drop(last)
	}
}

func (t *table[K]) drop(element *list.Element) {
	delete(t.entries, element.Value.(*entry[K]).key)
	t.order.Remove(element)
}
