package sp

import (
	"context"
	"crypto/sha1" // the wire's, protocol page, section 5.3
	"encoding/hex"
	"net/http"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// Visits are the sessions here of learners of other homes, where it is we who log
// them in: a Moodle without MNet tells no home when one ends, and no home can end
// one there. An application that is no Moodle knows of no session at all: then
// there are no Secrets and no Logout.
type Visits struct {
	Site    gateway.Wwwroot
	Peers   *gateway.Allowlist // the homes
	Cookie  string             // name of Moodle's session cookie
	Life    time.Duration      // Moodle's sessiontimeout: of a session that nobody uses; that of an AppSession is its own
	Store   *store.Site
	Secrets gateway.Secrets // keep Moodle session ids secret
	Now     func() time.Time

	// Children ends sessions at homes, which Call calls; Logout ends one here:
	// moodle.Web's.
	Children *mnet.Children
	Call     func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error)
	Logout   func(ctx context.Context, b moodle.Browser, userID int64) error

	// Reported is told how many busy learners a home was told of, or why it was
	// not. It may be nil.
	Reported func(home gateway.Wwwroot, learners int, err error)

	used used
}

const (
	killChildren     = "auth/mnet/auth.php/kill_children"
	noRemoteSessions = "Could find no remote sessions\n" // Moodle's words

	endTime   = 10 * time.Second // for a home to wait
	leaveTime = 2 * time.Second  // for an answer to wait for Redis
	// farewellTime is how long who logs out waits for the home to do so too, as
	// long as it has not failed: the browser goes there next, and should not
	// find itself logged in.
	farewellTime = 500 * time.Millisecond
)

// begin remembers the session that a landing has brought about, or found. It is
// store.ErrLoggedOut if the home has ended it since the learner was asked.
func (v *Visits) begin(r *http.Request, a Arrival, now present) error {
	return v.Store.Land(r.Context(), store.Visit{
		Home: a.Home.Wwwroot, Username: a.learner, Account: now.who.User.Username, UserID: now.who.User.ID, UserAgent: agentHash(r),
		Session: v.Secrets.Seal(now.session, v.whose(a.Home.Wwwroot, a.learner)), Hash: store.HomeHash(now.session),
	}, v.Life, a.asked)
}

// whose names who has a visit.
func (v *Visits) whose(home gateway.Wwwroot, learner string) string {
	return "visit " + v.Site.String() + " " + home.String() + " " + learner
}

// agentHash is what MNet calls a browser.
func agentHash(r *http.Request) string {
	sum := sha1.Sum([]byte(r.UserAgent()))
	return hex.EncodeToString(sum[:])
}

// letGo ends a session that was held, if its home has called it off meanwhile.
func (v *Visits) letGo(ctx context.Context, session string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	off, err := v.Store.LetGo(ctx, session)
	if err == nil && off {
		var visit store.Visit
		if visit, off, err = v.Store.VisitOf(ctx, session); err == nil && off {
			v.end(ctx, visit, mnet.CauseHome)
		}
	}
	if err != nil { // then it may have been, and nobody knows
		v.Children.Observe(mnet.Logout{Site: v.Site, Cause: mnet.CauseHome, Outcome: mnet.OutcomeUnknown, Err: err})
	}
}

// Methods returns the methods of the service sso_sp that homes may call (protocol
// page, section 5.4).
func (v *Visits) Methods() []mnet.Method {
	return []mnet.Method{
		{Name: "auth/mnet/auth.php/kill_child", Service: gateway.ServiceSSOSP, MinParams: 2, Call: v.killChild},
		{Name: "auth/mnet/auth.php/keepalive_client", Service: gateway.ServiceSSOSP, Call: v.keepaliveClient},
	}
}

// killChild ends the sessions here of a browser that logs out at the calling
// home, of that home's learner alone, under all of its names. One that a Moodle
// behind with MNet has begun itself, before it was us who do, is left to it.
func (v *Visits) killChild(ctx context.Context, call *mnet.Call) (mnet.Value, error) {
	var visits []store.Visit
	spared := false
	for _, name := range call.Peer.Names() { // they may have begun before it moved
		more, held, err := v.Store.CallOff(ctx, name, call.Param(0), call.Param(1))
		if err != nil {
			return nil, err
		}
		visits, spared = append(visits, more...), spared || held
	}
	if len(visits) == 0 && !spared {
		return nil, &mnet.PassOn{Else: false}
	}
	v.endAll(ctx, visits, mnet.CauseHome)
	return true, nil
}

// EndVisits ends the sessions here of a home's learner, in all browsers, as an
// administrator wants it. The home is not told.
func (v *Visits) EndVisits(ctx context.Context, home gateway.Wwwroot, username string) error {
	visits, err := v.Store.Visits(ctx, home, username, "")
	v.endAll(ctx, visits, mnet.CauseAdministrator)
	return err
}

func (v *Visits) endAll(ctx context.Context, visits []store.Visit, cause string) {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	var all sync.WaitGroup
	for _, visit := range visits {
		all.Go(func() { v.end(ctx, visit, cause) })
	}
	all.Wait()
}

// end ends a session here, as a click on "Log out" does.
func (v *Visits) end(ctx context.Context, visit store.Visit, cause string) {
	l := mnet.Logout{Site: v.Site, At: v.Site, Username: visit.Account, Cause: cause, Outcome: mnet.OutcomeFailed}
	end, err := v.ending(visit)
	if err != nil {
		l.Err = err
		v.Children.Observe(l)
		return
	}
	v.Children.EndNow(ctx, l, end)
}

// ending returns what ends a session here. It fails if no key of ours opens it. Where
// the session is ours, the visit is all there is.
func (v *Visits) ending(visit store.Visit) (func(context.Context) error, error) {
	if visit.Session == "" {
		return func(ctx context.Context) error { return v.Store.EndVisit(ctx, visit) }, nil
	}
	session, err := v.Secrets.Open(visit.Session, v.whose(visit.Home, visit.Username))
	return func(ctx context.Context) error {
		if err := v.Logout(ctx, moodle.Browser{Session: session}, visit.UserID); err != nil {
			return err
		}
		return v.Store.EndVisit(ctx, visit)
	}, err
}

// Leaves reports whether a request may be that of a learner who logs out.
func (v *Visits) Leaves(r *http.Request) bool {
	return r.URL.Path == v.Site.Path()+moodle.PageLogout && moodle.RequestSession(r, v.Cookie) != ""
}

// Departure is a logout here of a learner of another home.
type Departure struct {
	Visit    store.Visit   // that is over; zero if it was not such a logout
	Home     *gateway.Peer // nil then too, and if it is one no more
	Location string        // lead there
}

// Leave looks at what Moodle answers to a request that Leaves. If it logs out a
// learner of another home, they are logged out there too, and led there, as by a
// Moodle with MNet (source: prelogout_hook and logoutpage_hook). Without the right
// sesskey Moodle asks, and its session goes on; one that was over already is
// replaced without, also where somebody else's page asked for it.
func (v *Visits) Leave(r *http.Request, res *http.Response) (d Departure) {
	session := moodle.RequestSession(r, v.Cookie)
	if after, changed := moodle.SetsSession(res.Header, v.Cookie); !changed || after == session || res.StatusCode/100 != 3 || v.foreign(r) {
		return d
	}
	// The learner may be gone, who has seen all of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), leaveTime)
	defer cancel()
	visit, ok, err := v.Store.VisitOf(ctx, session)
	if err != nil {
		v.leaveLater(session, err)
		return d
	}
	if !ok {
		return d
	}
	return v.depart(r, visit)
}

// depart has a learner logged out at home whose visit is over, and waits for that a
// moment.
func (v *Visits) depart(r *http.Request, visit store.Visit) Departure {
	d := Departure{Visit: visit}
	tried := v.tell(visit)
	if d.Home = v.Peers.Caller(visit.Home.String(), v.Now()); d.Home == nil {
		return d
	}
	timer := time.NewTimer(farewellTime)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
	case <-r.Context().Done():
	}
	d.Location = d.Home.Wwwroot.String() + "/"
	return d
}

// foreign reports whether a request says that another site's page has made it.
func (v *Visits) foreign(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" && r.Referer() == "" {
		return false
	}
	return gateway.OriginOf(r.Header, v.Site).Foreign()
}

// leaveLater tells the home of a session that is over as soon as Redis says which
// it is.
func (v *Visits) leaveLater(session string, err error) {
	l := mnet.Logout{Site: v.Site, Cause: mnet.CauseHere, Tries: 1, Outcome: mnet.OutcomeFailed, Err: err}
	v.Children.Start(l, func(ctx context.Context) (mnet.Value, error) {
		visit, ok, err := v.Store.VisitOf(ctx, session)
		if err == nil && ok {
			v.tell(visit)
		}
		return true, err
	}, func(l mnet.Logout) {
		if !l.Done() {
			l.Outcome = mnet.OutcomeUnknown
			v.Children.Observe(l)
		}
	})
}

// tell has a learner logged out at home, in the background, whose visit is over.
// The channel is closed after the first try.
func (v *Visits) tell(visit store.Visit) (tried <-chan struct{}) {
	l := mnet.Logout{Site: v.Site, At: visit.Home, Username: visit.Username, Cause: mnet.CauseHere}
	done := make(chan struct{})
	once := sync.OnceFunc(func() { close(done) })
	home := v.Peers.Caller(visit.Home.String(), v.Now())
	if home == nil || !home.Subscribes(gateway.ServiceSSOIDP) {
		l.Outcome = mnet.OutcomeNotSubscribed
		v.Children.Observe(l)
		once()
		return done
	}
	left := v.Now()
	v.Children.Start(l, func(ctx context.Context) (mnet.Value, error) {
		defer once()
		return v.killParent(ctx, home, visit, left)
	}, func(l mnet.Logout) {
		once()
		v.Children.Observe(l)
	})
	return done
}

// killParent ends the session at home to which a visit belonged that was left. The
// home knows no more than user and browser, and would end what began there since
// as well. If Redis cannot say whether something did, rather one session too many
// ends than one too few.
func (v *Visits) killParent(ctx context.Context, home *gateway.Peer, visit store.Visit, left time.Time) (mnet.Value, error) {
	if visits, err := v.Store.Visits(ctx, visit.Home, visit.Username, visit.UserAgent); err == nil {
		for _, other := range visits {
			if other.Hash != visit.Hash && other.Started.After(left) {
				return nil, mnet.ErrLandedAgain
			}
		}
	}
	report, err := v.Call(ctx, home, killChildren, visit.Username, visit.UserAgent)
	if err == nil {
		err = v.Store.EndVisit(ctx, visit)
	}
	return mnet.Text(report) != noRemoteSessions, err
}
