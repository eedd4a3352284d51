package moodle

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// RedisOptions says where a Moodle keeps its sessions.
type RedisOptions struct {
	// Client is connected to Moodle's own Redis. It needs no more rights
	// than `%R~{Prefix}session_* +hmget`, for Moodle 4.1 to 4.4
	// `%R~{Prefix}* +hmget +get`; for Touch see there.
	Client redis.Cmdable

	Prefix         string           // $CFG->session_redis_prefix
	SessionTimeout time.Duration    // $CFG->sessiontimeout, default 8 hours
	LocalHostID    int64            // mnet_localhost_id, default DefaultLocalHostID
	MFA            bool             // the site uses tool_mfa
	Now            func() time.Time // default time.Now
}

// RedisSessions reads sessions in the Redis where Moodle's handler
// core\session\redis keeps them. An Identity costs one round trip.
//
// Since 4.5 a session is a hash `{prefix}session_{sid}`; from 4.1 to 4.4 it is
// a string `{prefix}{sid}`. RedisSessions asks for both until it has seen a
// hash or has been told that it may not read strings; from then on for hashes
// alone, which is all that the narrow access rule allows.
type RedisSessions struct {
	o          RedisOptions
	hashesOnly atomic.Bool
}

// NewRedisSessions returns a RedisSessions. It does not connect.
func NewRedisSessions(o RedisOptions) *RedisSessions {
	if o.SessionTimeout == 0 {
		o.SessionTimeout = 8 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &RedisSessions{o: o}
}

// Identity says who the browser's session belongs to. A session that does not
// exist, is dead, is half written or contradicts itself is nobody's. A Redis
// that does not answer, or a session that cannot be read, is an error.
func (r *RedisSessions) Identity(ctx context.Context, b Browser) (gateway.Identity, error) {
	if !validSessionID(b.Session) {
		return gateway.Identity{}, nil
	}
	fields, text, err := r.fetch(ctx, b.Session)
	if err != nil {
		return gateway.Identity{}, fmt.Errorf("read moodle session from redis: %w", withoutKeys(err))
	}
	s, err := Session{}, error(nil)
	switch {
	case fields.sessdata != "":
		s, err = r.fromHash(fields)
	case text != "":
		s, err = parseSession(text) // what does not live any more is gone
	}
	if err != nil {
		return gateway.Identity{}, fmt.Errorf("moodle session: %w", err)
	}
	return s.Identity(r.o.LocalHostID, r.o.MFA), nil
}

// sessionHash holds the fields of a session's hash, each as phpredis
// serialised it, or "" if absent.
type sessionHash struct{ userid, state, timemodified, sessdata string }

// fetch asks for a session in both layouts that it may have.
func (r *RedisSessions) fetch(ctx context.Context, sid string) (sessionHash, string, error) {
	key := r.sessionKey(sid)
	if r.hashesOnly.Load() {
		hash, err := readHash(r.o.Client.HMGet(ctx, key, "userid", "state", "timemodified", "sessdata"))
		return hash, "", err
	}
	pipe := r.o.Client.Pipeline()
	hmget := pipe.HMGet(ctx, key, "userid", "state", "timemodified", "sessdata")
	get := pipe.Get(ctx, r.o.Prefix+sid)
	_, _ = pipe.Exec(ctx) // each command has its own error
	hash, err := readHash(hmget)
	if err != nil {
		return sessionHash{}, "", err
	}
	text, err := get.Result()
	switch {
	case hash.sessdata != "" || redis.IsPermissionError(err):
		r.hashesOnly.Store(true)
		return hash, "", nil
	case errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE"):
		return hash, "", nil
	}
	return hash, text, err
}

// withoutKeys returns an error of Redis without the beginning of the command's
// arguments, which Redis quotes if it does not have the command: a key of Moodle's
// holds a session id.
func withoutKeys(err error) error {
	if said, _, quotes := strings.Cut(err.Error(), ", with args beginning with:"); quotes {
		return errors.New(said)
	}
	return err
}

func readHash(cmd *redis.SliceCmd) (h sessionHash, err error) {
	values, err := cmd.Result()
	if err != nil {
		return h, err
	}
	for i, to := range []*string{&h.userid, &h.state, &h.timemodified, &h.sessdata} {
		if i < len(values) {
			*to, _ = values[i].(string)
		}
	}
	return h, nil
}

// fromHash judges a session as Moodle does when it is used next (source:
// initialise_user_session in lib/classes/session/manager.php), except that a
// session whose parts disagree is nobody's. The zero Session is nobody's.
func (r *RedisSessions) fromHash(h sessionHash) (Session, error) {
	userid, err := decodeInt(h.userid)
	if err != nil {
		return Session{}, fmt.Errorf("field userid: %w", err)
	}
	state, err := decodeInt(h.state)
	if err != nil {
		return Session{}, fmt.Errorf("field state: %w", err)
	}
	modified, err := decodeInt(h.timemodified)
	if err != nil {
		return Session{}, fmt.Errorf("field timemodified: %w", err)
	}
	oldest := r.o.Now().Add(-r.o.SessionTimeout).Unix()
	if userid == 0 || state != 0 || modified < oldest {
		return Session{}, nil
	}
	s, err := parseSession(h.sessdata)
	if err != nil || s.RealUserID != userid {
		return Session{}, err
	}
	return s, nil
}

// decodeInt reads a stored number, which may be a string; absent is 0.
func decodeInt(raw string) (int64, error) {
	if raw == "" {
		return 0, nil
	}
	v, err := decodeValue(raw)
	switch {
	case err != nil:
		return 0, err
	case v.kind == kindNull:
		return 0, nil
	case v.kind != kindInt && v.kind != kindString:
		return 0, errors.New("not a number")
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil {
		return 0, errors.New("not a number")
	}
	return n, nil
}
