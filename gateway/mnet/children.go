package mnet

import (
	"context"
	"errors"
	"sync"
	"time"

	"jumpgate/gateway"
)

// Logout is what became of one session that was to end: a learner's at a peer,
// or at the site itself. It is turned into one log line and the metrics in one
// place, web.
type Logout struct {
	Site     gateway.Wwwroot
	At       gateway.Wwwroot // a peer, or Site; zero if Redis could not say which
	Username string
	Cause    string // what ended the others, one of the causes below
	Outcome  string // one of the outcomes below
	Tries    int    // calls made
	Took     time.Duration
	Err      error // of the last one
}

// Causes of a Logout. They are stable: logs and metrics carry them.
const (
	CauseHome          = "home"          // the session at home is over: a logout, or its time
	CausePeer          = "peer"          // a logout at a peer
	CauseHere          = "here"          // a logout here, of a learner whose home is the peer
	CauseAdministrator = "administrator" // jumpgate session end
)

// Outcomes of a Logout. They are stable too.
const (
	OutcomeEnded         = "ended"
	OutcomeNone          = "none"           // the peer knew of no such session any more
	OutcomeAgain         = "again"          // the learner has landed there anew: too late to end it
	OutcomeRefused       = "refused"        // the peer answered with a fault
	OutcomeFailed        = "failed"         // no valid answer, however often we tried
	OutcomeDropped       = "dropped"        // too many wait for this peer already
	OutcomeNotSubscribed = "not-subscribed" // the peer does not let us call, or is none any more
	OutcomeUnknown       = "unknown"        // Redis could not say what belongs to the session
)

// Done reports whether the session is over.
func (l Logout) Done() bool {
	return l.Outcome == OutcomeEnded || l.Outcome == OutcomeNone || l.Outcome == OutcomeAgain
}

// ErrLandedAgain is why a peer is not called: it would end a session that
// began after the one that was to end.
var ErrLandedAgain = errors.New("the learner has landed again")

// KillPauses are the pauses between the tries of a gateway.
var KillPauses = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

const (
	killTime    = 10 * time.Second // for one call
	maxCalls    = 8                // to one peer at once
	maxChildren = 512              // that wait for one peer
)

// Children ends sessions at peers by kill_child (protocol page, section 5.4):
// in MNet's words they are children of the session at home. The other way round
// it ends those at home, by kill_children. Nobody waits for it: each is ended in
// the background, and once more where that fails. A peer that does not answer
// holds up nobody but itself. What could not be ended at the site itself waits
// here too, as if that were a peer.
type Children struct {
	observe func(Logout)
	pauses  []time.Duration

	ctx     context.Context // of all calls
	cancel  context.CancelFunc
	closing chan struct{} // closed: no more pauses
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	peers  map[line]*queue
}

// line leads from a site to a peer.
type line struct{ site, peer gateway.Wwwroot }

// queue is what waits for a peer.
type queue struct {
	length int
	calls  chan struct{} // a semaphore
}

// NewChildren returns a Children that tells observe of each outcome and tries
// again after each of the pauses. Close ends it.
func NewChildren(observe func(Logout), pauses []time.Duration) *Children {
	c := &Children{observe: observe, pauses: pauses, closing: make(chan struct{}), peers: map[line]*queue{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Wait waits until nothing is left to do.
func (c *Children) Wait() { c.running.Wait() }

// Close gives what is under way the time until ctx ends. What waits for its
// next try has it at once, as its last one. Each has its outcome afterwards.
func (c *Children) Close(ctx context.Context) {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.closing)
	}
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, c.cancel)
	defer stop()
	c.running.Wait()
	c.cancel()
}

// Observe tells of an outcome that took no call.
func (c *Children) Observe(l Logout) { c.observe(l) }

// End ends a session in the background by calling kill, of which a first try
// may have failed. The answer counts as that of kill_child.
func (c *Children) End(l Logout, kill func(context.Context) (Value, error)) {
	c.Start(l, kill, c.observe)
}

// EndNow ends a session of the site itself by calling end, at once. Nothing else
// would do it later, so where that fails it is tried again in the background.
func (c *Children) EndNow(ctx context.Context, l Logout, end func(context.Context) error) {
	start := time.Now()
	l.Err = end(ctx)
	l.Tries, l.Took = 1, time.Since(start)
	if l.Err != nil {
		c.End(l, func(ctx context.Context) (Value, error) { return true, end(ctx) })
		return
	}
	l.Outcome = OutcomeEnded
	c.observe(l)
}

// Start is End for something whose outcome done is told.
func (c *Children) Start(l Logout, kill func(context.Context) (Value, error), done func(Logout)) {
	q := c.enter(line{l.Site, l.At})
	if q == nil {
		l.Outcome = OutcomeDropped
		done(l)
		return
	}
	go func() {
		defer c.leave(line{l.Site, l.At}, q)
		done(c.try(l, q, kill))
	}()
}

// enter takes a place among what waits for a peer, or returns nil if there is
// none.
func (c *Children) enter(to line) *queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.peers[to]
	if q == nil {
		q = &queue{calls: make(chan struct{}, maxCalls)}
	}
	if q.length >= maxChildren || c.closed {
		return nil
	}
	q.length++
	c.peers[to] = q
	c.running.Add(1)
	return q
}

func (c *Children) leave(to line, q *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.length--; q.length == 0 {
		delete(c.peers, to)
	}
	c.running.Done()
}

// try calls until there is an answer or there are no tries left.
func (c *Children) try(l Logout, q *queue, kill func(context.Context) (Value, error)) Logout {
	start := time.Now().Add(-l.Took)
	for l.Tries == 0 || l.Tries <= len(c.pauses) && c.pause(c.pauses[l.Tries-1]) {
		answer, err := c.call(q, kill)
		l.Tries, l.Took, l.Err, l.Outcome = l.Tries+1, time.Since(start), err, outcome(answer, err)
		if l.Outcome != OutcomeFailed {
			break
		}
	}
	return l
}

func (c *Children) call(q *queue, kill func(context.Context) (Value, error)) (Value, error) {
	select {
	case q.calls <- struct{}{}:
		defer func() { <-q.calls }()
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(c.ctx, killTime)
	defer cancel()
	return kill(ctx)
}

// pause reports whether to try again. It is cut short by Close, after which
// there is one more try and no pause.
func (c *Children) pause(d time.Duration) bool {
	select {
	case <-c.closing:
		return false
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.closing:
	}
	return true
}

// outcome reads the answer to kill_child. A fault that the peer signed is
// final, but for that of an error in between.
func outcome(answer Value, err error) string {
	fault, refused := errors.AsType[*Fault](err)
	switch {
	case errors.Is(err, ErrLandedAgain):
		return OutcomeAgain
	case refused && !fault.Unauthenticated && fault.Code != FaultOther:
		return OutcomeRefused
	case err != nil:
		return OutcomeFailed
	}
	if n, _ := Int(answer); n == 0 {
		return OutcomeNone
	}
	return OutcomeEnded
}
