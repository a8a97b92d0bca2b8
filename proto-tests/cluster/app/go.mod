module herald.test/app

go 1.26.0
