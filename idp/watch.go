package idp

import (
	"context"
	"net/http"
	"strings"
	"time"

	"jumpgate/gateway/moodle"
)

// watchTime bounds how long an answer waits for Redis.
const watchTime = 2 * time.Second

// Watches reports whether Watch has to see what Moodle answers to a request.
func (p *Provider) Watches(r *http.Request) bool {
	for _, line := range r.Header["Cookie"] {
		if strings.Contains(line, p.Cookie+"=") {
			return true
		}
	}
	return false
}

// Watch looks at an answer of Moodle's that may end a session or hand it to
// another account, so that nobody is taken for who they were a moment ago, and
// that the learner's sessions at peers end with it. Moodle replaces a session
// at each login and logout, and one that has timed out when it is used next.
func (p *Provider) Watch(r *http.Request, res *http.Response) error {
	after, changed := moodle.SetsSession(res.Header, p.Cookie)
	loginAs := p.forgetter != nil && r.URL.Path == p.Site.Path()+moodle.PageLoginAs
	if !changed && !loginAs {
		return nil
	}
	session := moodle.RequestSession(r, p.Cookie)
	if session == "" || after == session && !loginAs {
		return nil
	}
	// The learner may be gone, who has seen all of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), watchTime)
	defer cancel()
	if changed && after != session {
		if err := p.homeEnded(ctx, session, CauseHome); err != nil {
			p.Children.observe(Logout{Site: p.Site, Cause: CauseHome, Outcome: OutcomeUnknown, Err: err})
		}
	}
	if p.forgetter == nil {
		return nil
	}
	return p.forgetter.Forget(ctx, session)
}
