package moodle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// The sizes of a picture.
const (
	PictureLarge = "f1" // 100 pixels
	PictureSmall = "f2" // 35 pixels
)

const (
	maxPicture       = 128 << 10 // bytes: three times what 100 by 100 pixels need
	pictureRedirects = 3
)

// Picture is a picture of a user.
type Picture struct {
	Type string // image/png, image/jpeg, image/gif or image/webp
	Data []byte
}

// Picture returns the picture of a user in a size, the way a page without a
// login shows it, or false if it shows none: Moodle then leads to the theme's,
// as it does for everybody where pictures need a login (source: user/pix.php).
// For a user who has none it may also answer with the theme's as if it were
// theirs: ask only for those whose record has one.
func (b *Behind) Picture(ctx context.Context, userID int64, size string) (Picture, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	page := &url.URL{Path: "/user/pix.php/" + strconv.FormatInt(userID, 10) + "/" + size + ".jpg"}
	for range pictureRedirects + 1 {
		req, err := b.request(ctx, http.MethodGet, page.Path, nil)
		if err != nil {
			return Picture{}, false, err
		}
		req.URL.RawQuery = page.RawQuery
		res, body, err := b.do(req, maxPicture)
		if err != nil {
			return Picture{}, false, fmt.Errorf("picture: %w", err)
		}
		switch {
		case res.StatusCode == http.StatusOK:
			return picture(body)
		case res.StatusCode == http.StatusNotFound:
			return Picture{}, false, nil
		case res.StatusCode < 300 || res.StatusCode > 399:
			return Picture{}, false, fmt.Errorf("picture: status %d", res.StatusCode)
		}
		var ok bool
		if page, ok = b.inside(res.Header.Get("Location")); !ok {
			return Picture{}, false, errors.New("picture: a redirect leads away from the site")
		}
		if strings.HasPrefix(page.Path, "/theme/") {
			return Picture{}, false, nil
		}
	}
	return Picture{}, false, fmt.Errorf("picture: more than %d redirects", pictureRedirects)
}

// inside returns the page that an address of the site names, with its path
// below the wwwroot, or false for every other address.
func (b *Behind) inside(address string) (*url.URL, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" || u.User != nil {
		return nil, false
	}
	origin := u.Scheme + "://" + u.Host
	inner := b.o.Upstream.Scheme + "://" + b.o.Upstream.Host
	if origin != "://" && origin != b.o.Site.Origin() && origin != inner {
		return nil, false
	}
	below, ok := strings.CutPrefix(u.Path, b.o.Site.Path())
	if !ok || !strings.HasPrefix(below, "/") || path.Clean(u.Path) != u.Path {
		return nil, false
	}
	return &url.URL{Path: below, RawQuery: u.RawQuery}, true
}

// picture believes the bytes, not what Moodle calls them.
func picture(data []byte) (Picture, bool, error) {
	switch kind := http.DetectContentType(data); kind {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return Picture{kind, data}, true, nil
	default:
		return Picture{}, false, fmt.Errorf("picture: it is %s", kind)
	}
}
