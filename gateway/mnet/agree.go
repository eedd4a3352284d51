package mnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"jumpgate/gateway"
)

// Registry is where the gateways of a site agree on its current key, so that
// none signs with a key that the others do not have.
type Registry interface {
	// RegisterKey says that a gateway is alive, where its state directory is,
	// which key it has and of which generation. It returns the key agreed on,
	// that of the first to ask until ChangeKey, with its generation, and the
	// state directories of all that are alive. A gateway with a later
	// generation is believed: then a change was lost. One without a name only
	// asks.
	RegisterKey(ctx context.Context, name, state string, f gateway.Fingerprint, generation int64) (agreed gateway.Fingerprint, of int64, states []string, err error)

	// ChangeKey makes to the agreed key if from still is, and keeps sealed,
	// if it is not nil, for gateways that have to fetch it. It returns the
	// generation of to, or 0 if another key is agreed on. Of several at once
	// one wins. It may be repeated when its answer was lost, and from may be
	// to.
	ChangeKey(ctx context.Context, from, to gateway.Fingerprint, sealed []byte) (generation int64, err error)

	// SealedKey returns what ChangeKey kept for a key, or nil.
	SealedKey(ctx context.Context, f gateway.Fingerprint) ([]byte, error)
}

// OtherKeyError says that the gateways of a site have agreed on a key that
// this one does not have.
type OtherKeyError struct {
	Site         gateway.Wwwroot
	Ours, Agreed gateway.Fingerprint
}

func (e *OtherKeyError) Error() string {
	return fmt.Sprintf("the MNet key of %s is %s here, but its gateways have agreed on %s", e.Site, e.Ours, e.Agreed)
}

// ErrSeparateStates says that a new key could not reach the other gateways.
var ErrSeparateStates = errors.New("the gateways of the site have separate state directories and no secret under which a new key could travel")

const (
	rotateAhead = 28 * 24 * time.Hour // before the end of a key of DefaultLifetime
	settleEvery = 5 * time.Second
	settleTime  = 3 * time.Second
)

// Settle takes up what has changed in the files and what the other gateways
// have agreed on. It returns an *OtherKeyError if it cannot; other errors say
// that nobody could be asked.
func (r *Keyring) Settle(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settle(ctx)
}

func (r *Keyring) settle(ctx context.Context) error {
	if err := r.read(); err != nil {
		return err
	}
	if r.Registry == nil {
		return r.want(ctx)
	}
	ours := r.Current().certificate.Fingerprint()
	agreed, generation, states, err := r.Registry.RegisterKey(ctx, r.Gateway, r.state, ours, r.generation)
	if err != nil {
		return &unreached{fmt.Errorf("agree on a key: %w", err)}
	}
	r.agreed, r.states = agreed, states
	if r.wanted != nil {
		return r.want(ctx)
	}
	if agreed == ours {
		if generation != r.generation {
			if err := r.setCount(generation); err != nil {
				return err
			}
		}
		return r.offer(ctx)
	}
	key := r.find(agreed)
	if key == nil {
		if key, err = r.fetch(ctx, agreed); err != nil {
			return err
		}
	}
	if key == nil {
		return &OtherKeyError{Site: r.Site, Ours: ours, Agreed: agreed}
	}
	return r.promote(key, generation)
}

// unreached is an error of a Registry, which says by itself that it is down.
type unreached struct{ error }

func (u *unreached) Unwrap() error { return u.error }

// want changes to the key that an administrator wants.
func (r *Keyring) want(ctx context.Context) error {
	key := r.wanted
	if key == nil {
		return nil
	}
	r.wanted = nil
	err := r.change(ctx, key)
	if err == nil && r.configured != nil {
		// It has been taken up, or somebody wants another one since.
		err = r.markImported(r.configured)
	}
	if err != nil {
		r.wanted = key
		return err
	}
	r.configured = nil
	return nil
}

// offer lets gateways that begin later fetch the current key, if there is a
// secret for that.
func (r *Keyring) offer(ctx context.Context) error {
	current := r.Current()
	f := current.certificate.Fingerprint()
	if r.Secret == nil || r.offered == f {
		return nil
	}
	sealed, err := sealKey(current, r.Secret, r.Site)
	if err != nil {
		return err
	}
	if _, err := r.Registry.ChangeKey(ctx, f, f, sealed); err != nil {
		return &unreached{fmt.Errorf("offer key: %w", err)}
	}
	r.offered = f
	return nil
}

// fetch returns the key that another gateway has sealed for us, or nil.
func (r *Keyring) fetch(ctx context.Context, f gateway.Fingerprint) (*Key, error) {
	if r.Secret == nil {
		return nil, nil
	}
	sealed, err := r.Registry.SealedKey(ctx, f)
	if err != nil {
		return nil, &unreached{fmt.Errorf("fetch key: %w", err)}
	}
	if sealed == nil {
		return nil, nil
	}
	key, err := openKey(sealed, r.Secret, r.Site, f, r.Aliases...)
	if err != nil {
		return nil, fmt.Errorf("fetch key: %w", err)
	}
	return key, r.keep(key, offeredKey)
}

// Due reports whether the current key ends soon: 28 days before for a key of
// a year, proportionally less for shorter ones (Moodle's live 28 days).
func (r *Keyring) Due() bool {
	c := r.Current().certificate
	ahead := min(rotateAhead, c.NotAfter.Sub(c.NotBefore)*28/365)
	return c.NotAfter.Sub(r.Now()) < ahead
}

// Rotate makes a new key and lets all gateways of the site change to it. If
// another gateway was faster, its key is taken up instead.
func (r *Keyring) Rotate(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.settle(ctx); err != nil {
		return err
	}
	if r.pending == nil {
		key, err := NewKey(r.Site, r.Now(), DefaultLifetime)
		if err != nil {
			return err
		}
		r.pending = key
	}
	if err := r.change(ctx, r.pending); err != nil {
		return err
	}
	r.pending = nil
	return nil
}

// SettleTime is how long running gateways of a site take at most to take up a
// key that another process has changed.
const SettleTime = settleEvery + time.Second

// Import makes key, which must name the site, the current one for all gateways
// of the site, even if they have agreed on one that is lost here.
func (r *Keyring) Import(ctx context.Context, key *Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = key
	return r.settle(ctx)
}

// change writes the key before it is agreed on: once others rely on it, it
// must not be lost.
func (r *Keyring) change(ctx context.Context, key *Key) error {
	if r.Registry == nil {
		return r.promote(key, r.generation+1)
	}
	if r.Secret == nil && slices.ContainsFunc(r.states, func(s string) bool { return s != r.state }) {
		return ErrSeparateStates
	}
	var sealed []byte
	if r.Secret != nil {
		var err error
		if sealed, err = sealKey(key, r.Secret, r.Site); err != nil {
			return err
		}
	}
	if err := r.keep(key, offeredKey); err != nil {
		return err
	}
	generation, err := r.Registry.ChangeKey(ctx, r.agreed, key.certificate.Fingerprint(), sealed)
	if err != nil {
		// The file stays: nobody knows whether it was agreed on.
		return &unreached{fmt.Errorf("agree on a key: %w", err)}
	}
	if generation == 0 {
		r.withdraw(key)
		return r.settle(ctx)
	}
	return r.promote(key, generation)
}

// Watch settles every few seconds until ctx ends, and rotates, if rotate says
// so, when that is due. Each change, and each failure once, is logged.
func (r *Keyring) Watch(ctx context.Context, rotate func() bool, log *slog.Logger) {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := r.Current()
		err := r.keepUp(ctx, rotate())
		r.failure.Store(&err)
		if now := r.Current(); !now.same(before) {
			log.LogAttrs(ctx, slog.LevelInfo, "the MNet key of the site has changed", slog.String("site", r.Site.String()),
				slog.String("from", before.certificate.Fingerprint().String()), slog.String("to", now.certificate.Fingerprint().String()))
			if r.Changed != nil {
				r.Changed(KeyChange{Of: r.Site, From: before.certificate.Fingerprint(), To: now.certificate.Fingerprint(), How: KeyRotated})
			}
		}
		_, away := errors.AsType[*unreached](err)
		switch {
		case err == nil:
			said = ""
		case away: // which is said by who watches it
			log.LogAttrs(ctx, slog.LevelDebug, "the gateways of the site cannot agree on a key now", slog.String("site", r.Site.String()), slog.Any("error", err))
		case err.Error() != said && ctx.Err() == nil:
			said = err.Error()
			log.LogAttrs(ctx, slog.LevelError, "the MNet key of the site needs attention", slog.String("site", r.Site.String()), slog.Any("error", err))
		}
	}
}

func (r *Keyring) keepUp(ctx context.Context, rotate bool) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := r.Settle(ctx); err != nil || !rotate || !r.Due() {
		return err
	}
	return r.Rotate(ctx)
}

// Failure returns the *OtherKeyError that Watch met last, or nil.
func (r *Keyring) Failure() error {
	if err := r.failure.Load(); err != nil {
		if other, ok := errors.AsType[*OtherKeyError](*err); ok {
			return other
		}
	}
	return nil
}
