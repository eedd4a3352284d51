package sp

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

const (
	keepaliveServer = "auth/mnet/auth.php/keepalive_server"

	renewEvery     = time.Minute
	keepAliveEvery = 10 * time.Minute // as Moodle's cron does (protocol page, section 7)
	// turnLease is for how long a gateway that is gone may keep the others from
	// following it.
	turnLease = 150 * time.Second
	// busyLately is who counts as busy if a home asks.
	busyLately = 5 * time.Minute

	renewTime     = 10 * time.Second // for Redis
	reportTime    = 20 * time.Second // for one call of a home
	reportsAtOnce = 8                // homes
	endsAtOnce    = 8                // sessions
	maxReported   = 500              // learners in one call
	maxUsed       = 20_000           // sessions noted at once
)

// used are the sessions that browsers have used lately: ids of Moodle's, or cookies
// of ours.
type used struct {
	mu       sync.Mutex
	sessions map[string]bool
	full     chan struct{} // tells Run that there is no room; nil before it
}

// Use notes that a browser uses its session: Moodle has answered, and does not
// replace it. It asks nobody: whose the session is, Run finds out. What a page
// does by itself to see whether the session lives is no use, as long as it is none
// to Moodle (source: lib/ajax/service.php, core/ajax): a visit must not end before
// its session. Of several values PHP takes the last, so that it must be.
func (v *Visits) Use(r *http.Request, res *http.Response) {
	session := moodle.RequestSession(r, v.Cookie)
	timer := r.URL.Path == v.Site.Path()+moodle.PageAJAX && strings.HasSuffix(r.URL.RawQuery, "&nosessionupdate=true")
	if session == "" || timer {
		return
	}
	if after, changed := moodle.SetsSession(res.Header, v.Cookie); changed && after != session {
		return
	}
	v.note(session)
}

// note is Use for a session that is in use otherwise: its owner was asked for, or it
// is one at an application.
func (v *Visits) note(session string) {
	if v == nil || session == "" {
		return
	}
	v.used.mu.Lock()
	defer v.used.mu.Unlock()
	if v.used.sessions[session] {
		return
	}
	if len(v.used.sessions) >= maxUsed { // anybody can make up some
		select {
		case v.used.full <- struct{}{}:
		default:
		}
		return
	}
	if v.used.sessions == nil {
		v.used.sessions = map[string]bool{}
	}
	v.used.sessions[strings.Clone(session)] = true // not all that the browser has sent
}

// take returns what was noted since the last time.
func (u *used) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for session := range u.sessions {
		all = append(all, session)
	}
	u.sessions = nil
	return all
}

// Run keeps visits alive that are in use, and every ten minutes, in one gateway of
// the site, the sessions of busy learners at their homes, until ctx ends. While
// Redis is down, which who watches it says, it does nothing.
func (v *Visits) Run(ctx context.Context) {
	name, full := rand.Text(), make(chan struct{}, 1)
	v.used.mu.Lock()
	v.used.full = full
	v.used.mu.Unlock()
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = v.renew(ctx)
			v.report(ctx, name)
		case <-full:
			_ = v.renew(ctx)
		case <-ctx.Done():
			_ = v.renew(context.WithoutCancel(ctx))
			return
		}
	}
}

// renew tells Redis which visits are in use. What it does not take is lost: there
// is a next time before a visit ends. Those that were to end and have not, because
// Moodle was away for longer than it is tried or a gateway was, it ends.
func (v *Visits) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	off, err := v.Store.RenewVisits(ctx, v.used.take(), v.Life)
	var all sync.WaitGroup
	ends := make(chan struct{}, endsAtOnce)
	for _, visit := range off {
		ends <- struct{}{}
		all.Go(func() {
			defer func() { <-ends }()
			v.endAgain(ctx, visit)
		})
	}
	all.Wait()
	return err
}

// endAgain tries once more to end a session here. That it was to end and did not
// has been told.
func (v *Visits) endAgain(ctx context.Context, visit store.Visit) {
	l := mnet.Logout{Site: v.Site, At: v.Site, Username: visit.Account, Cause: mnet.CauseHome, Outcome: mnet.OutcomeEnded, Tries: 1}
	end, err := v.ending(visit)
	if err == nil && end(ctx) == nil {
		v.Children.Observe(l)
	}
}

// report tells all homes which of their learners were busy here since the last
// time, if it is time and our turn.
func (v *Visits) report(ctx context.Context, name string) {
	due, last, err := v.Store.Turn(ctx, name, turnLease, keepAliveEvery)
	if err != nil || !due {
		return
	}
	busy, err := v.Store.Busy(ctx, last)
	if err != nil {
		return
	}
	var all sync.WaitGroup
	calls := make(chan struct{}, reportsAtOnce)
	for home, learners := range busy {
		calls <- struct{}{}
		all.Go(func() {
			defer func() { <-calls }()
			_ = v.keepAlive(ctx, home, learners)
		})
	}
	all.Wait()
}

var errNotCallable = errors.New("it is no home any more, or does not let us call")

// keepAlive tells a home of its busy learners. A home that does not answer is told
// of no more of them.
func (v *Visits) keepAlive(ctx context.Context, home gateway.Wwwroot, learners []string) error {
	peer, err := v.Peers.Caller(home.String(), v.Now()), errNotCallable
	if peer != nil && peer.Subscribes(gateway.ServiceSSOIDP) {
		for chunk := range slices.Chunk(learners, maxReported) {
			if err = v.keepAliveSome(ctx, peer, chunk); err != nil {
				break
			}
		}
	}
	if v.Reported != nil && ctx.Err() == nil {
		v.Reported(home, len(learners), err)
	}
	return err
}

func (v *Visits) keepAliveSome(ctx context.Context, home *gateway.Peer, learners []string) error {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	names := mnet.Array{}
	for _, name := range learners {
		names = append(names, name)
	}
	_, err := v.Call(ctx, home, keepaliveServer, names)
	return err
}

// keepaliveClient tells the calling home at once which of its learners are busy
// here. A Moodle tells all homes then, whoever asks; its answer is true if nobody
// is, else nothing (source).
func (v *Visits) keepaliveClient(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	if err := v.renew(ctx); err != nil {
		return nil, err
	}
	busy, err := v.Store.Busy(ctx, v.Now().Add(-busyLately))
	if err != nil {
		return nil, err
	}
	var learners []string
	for _, name := range call.Peer.Names() { // they may have come before it moved
		learners = append(learners, busy[name]...)
	}
	slices.Sort(learners)
	learners = slices.Compact(learners)
	if len(learners) == 0 {
		return true, nil
	}
	if err := v.keepAlive(ctx, call.Peer.Wwwroot, learners); err != nil {
		call.Note("home-not-told", err)
	}
	return nil, nil
}
