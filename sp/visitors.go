package sp

import (
	"context"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
)

// Visitors is the identity source of a site where learners of other homes have
// accounts of its own: to other sites it does not vouch for them.
type Visitors struct {
	Source
	Auth   string // of these accounts: moodle.AuthHeader or moodle.AuthOAuth2
	Names  gateway.AccountNames
	Peers  *gateway.Allowlist // the homes
	Visits *Visits            // of the site; may be nil
}

// tookIn reports whether an account is one that the site itself has made for a
// learner of another home.
func (v Visitors) tookIn(u gateway.User) bool {
	if v.Auth == moodle.AuthHeader { // no name need be read
		return u.Auth == v.Auth
	}
	_, _, ours := v.HomeOf(u)
	return ours
}

// Identity marks whom the site has taken in as remote.
func (v Visitors) Identity(ctx context.Context, b moodle.Browser) (gateway.Identity, error) {
	id, err := v.Source.Identity(ctx, b)
	v.Visits.note(b.Session)
	id.Remote = id.Remote || v.tookIn(id.User)
	return id, err
}

// Forget has the Source forget whose a session is, if it remembers that.
func (v Visitors) Forget(ctx context.Context, session string) error {
	if f, ok := v.Source.(interface {
		Forget(ctx context.Context, session string) error
	}); ok {
		return f.Forget(ctx, session)
	}
	return nil
}

// HomeOf returns the home of a learner whom the site has taken in, and what they
// are called there; nil if their name is not that of a learner of any home. Of
// everybody else it reports that they are not ours to know: a site's own people may
// come by OAuth 2 as well, from another provider, under other names. No round trip.
func (v Visitors) HomeOf(u gateway.User) (home *gateway.Peer, username string, ours bool) {
	if u.Auth != v.Auth {
		return nil, "", false
	}
	home, username = v.Names.HomeOf(v.Peers, u.Username)
	return home, username, home != nil || v.Auth == moodle.AuthHeader
}
