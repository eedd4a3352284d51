package store

import (
	"context"
	"errors"
	"time"
)

// RevokeLink takes back a signed link, by its id, until it would end anyway. One
// round trip.
func (s *Site) RevokeLink(ctx context.Context, id string, until time.Time) error {
	life := until.Sub(s.r.now())
	if life <= 0 {
		return errors.New("the link has expired")
	}
	return fail("revoke link", s.r.client.Set(ctx, s.key(kindRevoked, hash(id)), 1, life).Err())
}

// LinkRevoked reports whether RevokeLink took a link back. One round trip.
func (s *Site) LinkRevoked(ctx context.Context, id string) (bool, error) {
	n, err := s.r.batched.Exists(ctx, s.key(kindRevoked, hash(id))).Result()
	return n > 0, fail("read revoked link", err)
}
