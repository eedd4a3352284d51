package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Picture is what is known of a learner's picture from the last redemption.
type Picture struct {
	UserID   int64     // in the Moodle behind
	Revision string    // Moodle's user.picture
	Since    time.Time // when the revision was first seen, in UTC
}

// PictureOf returns what is known of a learner's picture: the zero Picture if
// they have none. One round trip.
func (s *Site) PictureOf(ctx context.Context, username string) (Picture, error) {
	if len(username) > maxUsername {
		return Picture{}, nil
	}
	record, err := s.r.client.Get(ctx, s.key(kindPicture, username)).Result()
	if errors.Is(err, redis.Nil) {
		return Picture{}, nil
	}
	if err != nil {
		return Picture{}, fail("read picture", err)
	}
	p, err := parsePicture(record)
	if err != nil {
		return Picture{}, fmt.Errorf("read picture: record: %w", err)
	}
	return p, nil
}

// parsePicture reads a record of redeem.lua: user id, revision and time (µs),
// with blanks between. An empty one means no picture.
func parsePicture(record string) (Picture, error) {
	if record == "" {
		return Picture{}, nil
	}
	id, rest, _ := strings.Cut(record, " ")
	revision, since, _ := strings.Cut(rest, " ")
	userID, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return Picture{}, errors.New("malformed user id")
	}
	micros, err := strconv.ParseInt(since, 10, 64)
	if err != nil {
		return Picture{}, errors.New("malformed time")
	}
	return Picture{UserID: userID, Revision: revision, Since: time.UnixMicro(micros).UTC()}, nil
}
