package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Errors of this package. All but the last say what Redis answered; the last
// says that it did not, and the caller answers 503.
var (
	ErrReplayed     = errors.New("message seen before")
	ErrNoToken      = errors.New("no such token")
	ErrTokenExpired = errors.New("token expired")
	ErrOtherPeer    = errors.New("token of another peer")
	ErrOtherBrowser = errors.New("token of another browser")
	ErrLoggedOut    = errors.New("token from a session that ended")
	ErrTooMany      = errors.New("too many new browser sessions")
	ErrUnavailable  = errors.New("redis unavailable")
)

// refusals are the codes by which a Redis that is reachable says that it
// cannot work: it starts, it is a replica, its memory or disk is full, the
// cluster misses a slot, or we may not log in.
var refusals = []string{
	"LOADING", "READONLY", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
	"MISCONF", "BUSY", "EXECABORT", "NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients",
}

// unavailable reports whether err means that Redis cannot answer, as opposed
// to an answer that we do not like or a caller that went away.
func unavailable(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
		return false
	}
	answer, answered := errors.AsType[redis.Error](err)
	if !answered {
		return true // network, timeout, pool
	}
	msg := answer.Error()
	for _, code := range refusals {
		// Redis 6.2 wraps the error of a command in a script: "ERR Error
		// running script (…): @user_script: 12: -OOM command not allowed …".
		if strings.HasPrefix(msg, code) || strings.Contains(msg, " -"+code+" ") {
			return true
		}
	}
	return false
}

// fail gives err its context, and ErrUnavailable where it applies.
func fail(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case unavailable(err):
		return fmt.Errorf("%s: %w: %w", operation, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: redis: %w", operation, err)
}
