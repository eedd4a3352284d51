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

const (
	// CodeLife is how long an authorization code may be redeemed: by the Moodle
	// behind, while it is given it.
	CodeLife = 30 * time.Second
	// AccessLife is how long an access token tells who a code was for.
	AccessLife = 60 * time.Second
)

// IssueCode makes an authorization code (RFC 6749, section 4.1.2) of 40 characters
// from [A-Za-z0-9] that stands for record, once, within CodeLife. One round trip.
func (s *Site) IssueCode(ctx context.Context, record []byte) (code string, err error) {
	return s.keep(ctx, kindCode, record, CodeLife)
}

// RedeemCode burns a code and returns what it stands for, with an access token that
// stands for the same within AccessLife. ErrNoToken means that there is no such code,
// or not any more. Two round trips.
func (s *Site) RedeemCode(ctx context.Context, code string) (record []byte, access string, err error) {
	if !wellFormed(code, secretLength) {
		return nil, "", ErrNoToken
	}
	get := once{redis.NewCmd(ctx, "getdel", s.key(kindCode, hash(code)))}
	_ = s.r.client.Process(ctx, get)
	if record, err = s.kept(get.Text()); err != nil {
		return nil, "", err
	}
	access, err = s.keep(ctx, kindAccess, record, AccessLife)
	return record, access, err
}

// Access returns what an access token stands for, or ErrNoToken. One round trip, or
// none for what cannot be such a token.
func (s *Site) Access(ctx context.Context, token string) ([]byte, error) {
	if !wellFormed(token, secretLength) {
		return nil, ErrNoToken
	}
	return s.kept(s.r.client.Get(ctx, s.key(kindAccess, hash(token))).Result())
}

// ClaimMail reports whether subject may land with a mail address: whether nobody else
// has claimed it while a code of theirs, or an access token, may be in use. Letter
// case does not matter. One round trip.
func (s *Site) ClaimMail(ctx context.Context, mail, subject string) (bool, error) {
	claimed, err := scriptClaimMail.Run(ctx, s.r.client, []string{s.key(kindClaimed, hash(strings.ToLower(mail)))},
		hash(subject), (CodeLife + AccessLife).Milliseconds()).Bool()
	return claimed, fail("claim a mail address", err)
}

// keep remembers a record under a secret of its own.
func (s *Site) keep(ctx context.Context, kind string, record []byte, life time.Duration) (secret string, err error) {
	if len(record) > maxGrant {
		return "", fmt.Errorf("record is longer than %d bytes", maxGrant)
	}
	secret = random(secretLength)
	text := fmt.Sprintf("%d %s", micros(s.r.now().Add(life)), record)
	return secret, fail("keep "+strings.TrimSuffix(kind, ":"), s.r.client.Set(ctx, s.key(kind, hash(secret)), text, life).Err())
}

// kept reads what keep has remembered.
func (s *Site) kept(text string, err error) ([]byte, error) {
	if errors.Is(err, redis.Nil) {
		return nil, ErrNoToken
	}
	if err != nil {
		return nil, fail("read a record", err)
	}
	until, record, _ := strings.Cut(text, " ")
	at, err := strconv.ParseInt(until, 10, 64)
	if err != nil {
		return nil, errors.New("read a record: it is malformed")
	}
	if micros(s.r.now()) >= at {
		return nil, ErrNoToken
	}
	return []byte(record), nil
}
