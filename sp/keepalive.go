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
	maxReported   = 500              // learners in one call
	maxUsed       = 20_000           // sessions noted in renewEvery
)

// used are the sessions that browsers have used lately: ids of Moodle's, or cookies
// of ours.
type used struct {
	mu       sync.Mutex
	sessions map[string]bool
}

// Use notes that a browser uses its session: Moodle has answered, and does not
// replace it. It asks nobody: whose the session is, Run finds out. What a page
// does by itself to see whether the session lives is no use.
func (v *Visits) Use(r *http.Request, res *http.Response) {
	session := moodle.RequestSession(r, v.Cookie)
	if session == "" || strings.Contains(r.URL.RawQuery, "nosessionupdate") {
		return
	}
	if after, changed := moodle.SetsSession(res.Header, v.Cookie); changed && after != session {
		return
	}
	v.use(session)
}

func (v *Visits) use(session string) {
	v.used.mu.Lock()
	defer v.used.mu.Unlock()
	if v.used.sessions[session] || len(v.used.sessions) >= maxUsed {
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
	name := rand.Text()
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = v.renew(ctx)
			v.report(ctx, name)
		case <-ctx.Done():
			_ = v.renew(context.WithoutCancel(ctx))
			return
		}
	}
}

// renew tells Redis which visits are in use. What it does not take is lost: there
// is a next time before a visit ends.
func (v *Visits) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	return v.Store.RenewVisits(ctx, v.used.take(), v.Life)
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
	learners := busy[call.Peer.Wwwroot]
	if len(learners) == 0 {
		return true, nil
	}
	if err := v.keepAlive(ctx, call.Peer.Wwwroot, learners); err != nil {
		call.Note("home-not-told", err)
	}
	return nil, nil
}
