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
// sessions of its own for them. Nothing of it changes while it lasts.
type AppSession struct {
	Home     gateway.Wwwroot `json:"home"`
	Username string          `json:"username"` // at the home
	User     gateway.User    `json:"user"`     // here: Username is the name of the account
	Expires  time.Time       `json:"expires"`  // at the latest; set by BeginAppSession, in UTC
}

// BeginAppSession remembers a session that ends after life, or when it has not been
// looked at for idle, and returns the value of the cookie that stands for it: 40
// characters that nobody has seen before. It takes the place of the session of the
// cookie former, if that is one. One round trip.
func (s *Site) BeginAppSession(ctx context.Context, v AppSession, life, idle time.Duration, former string) (cookie string, err error) {
	v.Expires = s.r.now().UTC().Add(life)
	record, err := json.Marshal(v)
	if err == nil && len(record) > maxGrant {
		err = fmt.Errorf("longer than %d bytes", maxGrant)
	}
	if err != nil {
		return "", fmt.Errorf("session: %w", err)
	}
	cookie = random(secretLength)
	_, err = s.r.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, s.appKey(cookie), record, min(idle, life))
		if wellFormed(former, secretLength) {
			p.Del(ctx, s.appKey(former))
		}
		return nil
	})
	if err != nil {
		return "", fail("begin session", err)
	}
	return cookie, nil
}

// AppSession returns the session that a cookie stands for, or false, and lets it go on
// for another idle. One round trip, or none for what cannot be such a cookie.
func (s *Site) AppSession(ctx context.Context, cookie string, idle time.Duration) (AppSession, bool, error) {
	if !wellFormed(cookie, secretLength) {
		return AppSession{}, false, nil
	}
	record, err := s.r.batched.GetEx(ctx, s.appKey(cookie), idle).Bytes()
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
	lasts, err := s.r.batched.PExpire(ctx, s.appKey(cookie), idle).Result()
	return lasts, fail("keep session", err)
}

// EndAppSession ends the session that a cookie stands for. One round trip.
func (s *Site) EndAppSession(ctx context.Context, cookie string) error {
	if !wellFormed(cookie, secretLength) {
		return nil
	}
	return fail("end session", s.r.client.Del(ctx, s.appKey(cookie)).Err())
}

func (s *Site) appKey(cookie string) string { return s.key(kindApp, hash(cookie)) }
