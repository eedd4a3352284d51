package sp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// Visits are the sessions of learners at a site whose application has none for
// them: any that is not Moodle, and is told by Assertions who makes a request.
type Visits struct {
	Site       gateway.Wwwroot
	Peers      *gateway.Allowlist // the homes
	Store      *store.Site
	Assertions *Assertions
	Idle, Life time.Duration // a visit ends after Life, or Idle without a request
	Now        func() time.Time

	mu     sync.Mutex
	lately map[string]signed // by cookie
}

// signed is a visit with the assertion that was made for it.
type signed struct {
	visit     store.Visit
	assertion string
	until     time.Time // it is used again
}

const (
	// assertionUsed is how long an assertion is used again: what an application
	// gets is good for the other half of its life at least.
	assertionUsed = AssertionLife / 2
	maxSigned     = 10_000
)

// Assertion returns what the application is told of who makes a request: an
// assertion, or "" for nobody. One round trip to Redis, or none without a
// cookie; an error means that nobody can tell.
//
// A learner of a home that may not send them any more is nobody.
func (v *Visits) Assertion(r *http.Request) (string, error) {
	cookie := v.cookieOf(r)
	if cookie == "" {
		return "", nil
	}
	now := v.Now()
	v.mu.Lock()
	known, ok := v.lately[cookie]
	v.mu.Unlock()
	if ok && now.Before(known.until) {
		lasts, err := v.Store.KeepVisit(r.Context(), cookie, v.Idle)
		if err != nil || !lasts || !v.holds(known.visit, now) {
			return "", err
		}
		return known.assertion, nil
	}
	visit, ok, err := v.Store.Visit(r.Context(), cookie, v.Idle)
	if err != nil || !ok || !v.holds(visit, now) {
		return "", err
	}
	assertion, err := v.Assertions.Sign(visit)
	if err != nil {
		return "", err
	}
	v.remember(cookie, signed{visit, assertion, now.Add(assertionUsed)}, now)
	return assertion, nil
}

// holds reports whether a visit is as good as when it began.
func (v *Visits) holds(visit store.Visit, now time.Time) bool {
	home := v.Peers.Caller(visit.Home.String(), now)
	return now.Before(visit.Expires) && home != nil && home.Wwwroot == visit.Home &&
		home.Subscribes(gateway.ServiceSSOIDP) && home.Access.Allows(visit.Username)
}

// remember keeps an assertion to be used again. If there are too many, those of
// the others are signed anew.
func (v *Visits) remember(cookie string, s signed, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.lately) >= maxSigned {
		for other, old := range v.lately {
			if !now.Before(old.until) {
				delete(v.lately, other)
			}
		}
	}
	if v.lately == nil || len(v.lately) >= maxSigned {
		v.lately = map[string]signed{}
	}
	v.lately[cookie] = s
}

// visit returns whose visit a request is part of.
func (v *Visits) visit(r *http.Request) (store.Visit, bool, error) {
	visit, ok, err := v.Store.Visit(r.Context(), v.cookieOf(r), v.Idle)
	return visit, ok && err == nil && v.holds(visit, v.Now()), err
}

// begin begins a visit in place of the one that a request is part of, and returns
// the cookie that stands for it.
func (v *Visits) begin(r *http.Request, visit store.Visit) (*http.Cookie, error) {
	former := v.cookieOf(r)
	cookie, err := v.Store.BeginVisit(r.Context(), visit, v.Life, v.Idle, former)
	if err != nil {
		return nil, err
	}
	v.forget(former)
	return v.cookie(cookie), nil
}

// End ends the visit that a request is part of, also if the browser has gone, and
// returns it, zero for none, with the cookie that says so. Its home is not told.
func (v *Visits) End(r *http.Request) (store.Visit, *http.Cookie, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
	defer cancel()
	former := v.cookieOf(r)
	v.forget(former)
	visit, _, err := v.Store.Visit(ctx, former, v.Idle)
	if err := errors.Join(err, v.Store.EndVisit(ctx, former)); err != nil {
		return store.Visit{}, nil, fmt.Errorf("logout: %w", err)
	}
	gone := v.cookie("")
	gone.MaxAge = -1
	return visit, gone, nil
}

func (v *Visits) forget(cookie string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.lately, cookie)
}

func (v *Visits) cookieOf(r *http.Request) string {
	cookie, err := r.Cookie(v.Site.CookieName("visit"))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// cookie ends with the browser, at the latest.
func (v *Visits) cookie(value string) *http.Cookie {
	return &http.Cookie{
		Name: v.Site.CookieName("visit"), Value: value, Path: "/",
		HttpOnly: true, Secure: v.Site.Scheme() == "https", SameSite: http.SameSiteLaxMode,
	}
}

// present returns who uses a browser.
func (v *Visits) present(r *http.Request) (present, error) {
	visit, ok, err := v.visit(r)
	if !ok {
		return present{}, err
	}
	return present{session: v.cookieOf(r), who: gateway.Identity{User: visit.User}, visit: true}, nil
}

// visit logs an account in by a visit.
func (l *Landings) visit(r *http.Request, a Arrival, account gateway.User) Arrival {
	username, err := l.Header.Names.Username(a.Home.Wwwroot, account.Username)
	if err != nil { // the configuration has changed since the learner was asked
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, err})
	}
	cookie, err := l.Visits.begin(r, store.Visit{Home: a.Home.Wwwroot, Username: username, User: account})
	if err != nil {
		a.Outcome, a.Err = "", err
		return a
	}
	a.Location, a.Session = a.Target.URL(), cookie
	return a
}
