package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// TakenPicture is the last picture of a visitor's account that was taken from
// their home.
type TakenPicture struct {
	Version string // as the home tells one from the next
	Digest  string // of the last one that could be used, in hexadecimal digits; empty for none
}

// takenLife is how long after a landing it is known which picture was taken.
// Then it is taken once more.
const takenLife = 400 * 24 * time.Hour

// TakenPicture returns which picture of an account was taken; zero for none. One
// round trip.
func (s *Site) TakenPicture(ctx context.Context, account string) (TakenPicture, error) {
	record, err := s.r.client.GetEx(ctx, s.key(kindTaken, account), takenLife).Result()
	if errors.Is(err, redis.Nil) {
		return TakenPicture{}, nil
	}
	digest, version, _ := strings.Cut(record, " ")
	return TakenPicture{Version: version, Digest: digest}, fail("read which picture was taken", err)
}

// TakePicture remembers which picture of an account was taken. One round trip.
func (s *Site) TakePicture(ctx context.Context, account string, p TakenPicture) error {
	err := s.r.client.Set(ctx, s.key(kindTaken, account), p.Digest+" "+p.Version, takenLife).Err()
	return fail("remember which picture was taken", err)
}
