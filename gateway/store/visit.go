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

// Visit is the session of a learner who has landed at a site that has no
// sessions of its own for them. Nothing of it changes while it lasts.
type Visit struct {
	Home     gateway.Wwwroot `json:"home"`
	Username string          `json:"username"` // at the home
	User     gateway.User    `json:"user"`     // here: Username is the name of the account
	Expires  time.Time       `json:"expires"`  // at the latest; set by BeginVisit, in UTC
}

// BeginVisit remembers a visit that ends after life, or when it has not been
// looked at for idle, and returns the value of the cookie that stands for it: 40
// characters that nobody has seen before. It takes the place of the visit of the
// cookie former, if that is one. One round trip, or two.
func (s *Site) BeginVisit(ctx context.Context, v Visit, life, idle time.Duration, former string) (cookie string, err error) {
	v.Expires = s.r.now().UTC().Add(life)
	record, err := json.Marshal(v)
	if err == nil && len(record) > maxGrant {
		err = fmt.Errorf("longer than %d bytes", maxGrant)
	}
	if err != nil {
		return "", fmt.Errorf("visit: %w", err)
	}
	cookie = random(secretLength)
	if err := s.r.client.Set(ctx, s.visitKey(cookie), record, min(idle, life)).Err(); err != nil {
		return "", fail("begin visit", err)
	}
	if err := s.EndVisit(ctx, former); err != nil {
		return "", err
	}
	return cookie, nil
}

// Visit returns the visit that a cookie stands for, or false, and lets it go on
// for another idle. One round trip, or none for what cannot be such a cookie.
func (s *Site) Visit(ctx context.Context, cookie string, idle time.Duration) (Visit, bool, error) {
	if !wellFormed(cookie, secretLength) {
		return Visit{}, false, nil
	}
	record, err := s.r.batched.GetEx(ctx, s.visitKey(cookie), idle).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return Visit{}, false, nil
	case err != nil:
		return Visit{}, false, fail("read visit", err)
	}
	var v Visit
	if err := json.Unmarshal(record, &v); err != nil {
		return Visit{}, false, fmt.Errorf("read visit: record: %w", err)
	}
	return v, s.r.now().Before(v.Expires), nil
}

// KeepVisit is Visit for who has read it a moment ago: it reports whether it
// still lasts, but for its Expires.
func (s *Site) KeepVisit(ctx context.Context, cookie string, idle time.Duration) (bool, error) {
	if !wellFormed(cookie, secretLength) {
		return false, nil
	}
	lasts, err := s.r.batched.PExpire(ctx, s.visitKey(cookie), idle).Result()
	return lasts, fail("keep visit", err)
}

// EndVisit ends the visit that a cookie stands for. One round trip.
func (s *Site) EndVisit(ctx context.Context, cookie string) error {
	if !wellFormed(cookie, secretLength) {
		return nil
	}
	return fail("end visit", s.r.client.Del(ctx, s.visitKey(cookie)).Err())
}

func (s *Site) visitKey(cookie string) string { return s.key(kindVisit, hash(cookie)) }
