package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// AppSession is the session of a learner who has landed at a site that has no
// sessions of its own for them. Nothing of it changes while it lasts. EndVisit ends it.
type AppSession struct {
	Home     gateway.Wwwroot `json:"home"`
	Username string          `json:"username"` // at the home
	User     gateway.User    `json:"user"`     // here: Username is the name of the account
	Expires  time.Time       `json:"expires"`  // at the latest; set by BeginAppSession, in UTC
}

// AppLanding is how an AppSession begins. It is a Visit, of the same cookie.
type AppLanding struct {
	Session    AppSession
	UserAgent  string        // hexadecimal SHA-1 of the browser's User-Agent header
	Life, Idle time.Duration // the session ends after Life, or when it has not been looked at for Idle
	Former     string        // the cookie of the session whose place it takes, if that is one
	Awaited    bool          // see Land
}

// BeginAppSession remembers a session and returns the value of the cookie that stands
// for it: 40 characters that nobody has seen before. It is ErrLoggedOut where Land
// is, and changes nothing then. One round trip.
func (s *Site) BeginAppSession(ctx context.Context, l AppLanding) (cookie string, err error) {
	v := l.Session
	v.Expires = s.r.now().UTC().Add(l.Life)
	record, err := json.Marshal(v)
	if err == nil && len(record) > maxGrant {
		err = fmt.Errorf("longer than %d bytes", maxGrant)
	}
	if err != nil {
		return "", fmt.Errorf("session: %w", err)
	}
	cookie = random(secretLength)
	visit := Visit{Home: v.Home, Username: v.Username, Account: v.User.Username, UserAgent: l.UserAgent, Hash: hash(cookie)}
	if err := s.land(ctx, visit, l.Life, l.Awaited, []any{record, min(l.Idle, l.Life).Milliseconds(), hash(l.Former), s.key(kindVisits, "")}); err != nil {
		return "", err
	}
	return cookie, nil
}

// AppSession returns the session that a cookie stands for, or false, and lets it go on
// for another idle. One round trip, or none for what cannot be such a cookie.
func (s *Site) AppSession(ctx context.Context, cookie string, idle time.Duration) (AppSession, bool, error) {
	if !wellFormed(cookie, secretLength) {
		return AppSession{}, false, nil
	}
	record, err := s.r.batched.GetEx(ctx, s.appKey(hash(cookie)), idle).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return AppSession{}, false, nil
	case err != nil:
		return AppSession{}, false, fail("read session", err)
	}
	var v AppSession
	if err := json.Unmarshal(record, &v); err != nil {
		return AppSession{}, false, fmt.Errorf("read session: record: %w", err)
	}
	return v, s.r.now().Before(v.Expires), nil
}

// KeepAppSession is AppSession for who has read it a moment ago: it reports whether it
// still lasts, but for its Expires.
func (s *Site) KeepAppSession(ctx context.Context, cookie string, idle time.Duration) (bool, error) {
	if !wellFormed(cookie, secretLength) {
		return false, nil
	}
	lasts, err := s.r.batched.PExpire(ctx, s.appKey(hash(cookie)), idle).Result()
	return lasts, fail("keep session", err)
}

func (s *Site) appKey(hash string) string { return s.key(kindApp, hash) }
