package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

const (
	// mailHomeLife is how long it counts from which home somebody came.
	mailHomeLife = 400 * 24 * time.Hour

	maxMailHomes = 16 // of one person that are told, and names of one person
)

// LearnMailHome notes that somebody came from a home. Who it is, a name says that
// nobody can read: it must be a hash with a key. One round trip.
func (s *Site) LearnMailHome(ctx context.Context, name string, home gateway.Wwwroot) error {
	key, now := s.key(kindMail, name), s.r.now()
	_, err := s.r.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, key, redis.Z{Score: float64(now.Unix()), Member: home.String()})
		p.ZRemRangeByScore(ctx, key, "-inf", strconv.FormatInt(now.Add(-mailHomeLife).Unix(), 10))
		p.Expire(ctx, key, mailHomeLife)
		return nil
	})
	return fail("learn the home of a mail address", err)
}

// MailHomes returns the homes from which somebody has come within the last 400
// days, as wwwroots, under any of the names that they have. One round trip.
func (s *Site) MailHomes(ctx context.Context, names []string) ([]string, error) {
	if len(names) > maxMailHomes {
		return nil, errors.New("read the home of a mail address: too many names")
	}
	since := "(" + strconv.FormatInt(s.r.now().Add(-mailHomeLife).Unix(), 10)
	answers := make([]*redis.StringSliceCmd, len(names))
	_, err := s.r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			answers[i] = p.ZRevRangeByScore(ctx, s.key(kindMail, name), &redis.ZRangeBy{Min: since, Max: "+inf", Count: maxMailHomes})
		}
		return nil
	})
	if err != nil {
		return nil, fail("read the home of a mail address", err)
	}
	var homes []string
	for _, answer := range answers {
		homes = append(homes, answer.Val()...)
	}
	return homes, nil
}
