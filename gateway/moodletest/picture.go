package moodletest

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"jumpgate/gateway/mnet"
)

// contextOffset stands between the number of a user and that of their context.
const contextOffset = 100

// pictures serves the pictures of users as a 4.5 site does (user/pix.php and
// lib/filelib.php (source)), without a login: the old address leads to the file,
// and who has none, has the picture of the theme.
func (st *site) pictures() {
	st.mux.HandleFunc("/user/pix.php/", func(w http.ResponseWriter, r *http.Request) {
		args := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/user/pix.php"), "/"), "/")
		target := st.url("/theme/image.php/boost/core/1/u/f1")
		if len(args) == 2 {
			id, _ := strconv.ParseInt(args[0], 10, 64)
			if _, ok := st.users.byID(id); ok {
				name := "f2"
				if args[1] == "f1.jpg" {
					name = "f1"
				}
				target = st.url("/pluginfile.php/" + strconv.FormatInt(id+contextOffset, 10) + "/user/icon/" + name)
			}
		}
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusSeeOther)
	})
	st.mux.HandleFunc("/pluginfile.php/{context}/user/icon/{name}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.ParseInt(r.PathValue("context"), 10, 64)
		u, ok := st.users.byID(id - contextOffset)
		switch {
		case !ok:
			http.NotFound(w, r)
		case len(u.Icon) > 0:
			w.Header().Set("Cache-Control", "public, max-age=31536000, no-transform, immutable")
			writePicture(w, u.Icon)
		default:
			writePicture(w, defaultPicture())
		}
	})
	st.mux.HandleFunc("/theme/image.php/boost/core/{revision}/u/{name}", func(w http.ResponseWriter, r *http.Request) {
		writePicture(w, defaultPicture())
	})
}

func writePicture(w http.ResponseWriter, icon []byte) {
	w.Header().Set("Content-Type", http.DetectContentType(icon))
	w.Write(icon)
}

// defaultPicture is the theme's u/f1.
var defaultPicture = sync.OnceValue(func() []byte { return SamplePicture(color.Gray{Y: 0xcc}) })

// SamplePicture returns a picture of 100 times 100 pixels in one colour, as
// PNG.
func SamplePicture(c color.Color) []byte {
	m := image.NewPaletted(image.Rect(0, 0, 100, 100), color.Palette{c})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic("moodletest: a picture cannot be encoded: " + err.Error()) // into memory
	}
	return b.Bytes()
}

// iconStruct is the answer of fetch_user_image. A real site has a smaller one
// as f2.
func iconStruct(u *User) mnet.Value {
	if len(u.Icon) == 0 {
		return mnet.Array{}
	}
	text, kind := base64.StdEncoding.EncodeToString(u.Icon), http.DetectContentType(u.Icon)
	return mnet.Struct{
		{Name: "f1", Value: text}, {Name: "f1_mimetype", Value: kind},
		{Name: "f2", Value: text}, {Name: "f2_mimetype", Value: kind},
	}
}
